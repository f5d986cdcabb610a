"""Whatever operators do, and however calls end: one effect for each key, and no id is sent twice.

Each command is a call to a partner who knows calls by their idempotency keys.  A call may have its
effect or not, and its handler may succeed or fail for good all the same.  Operators replay, from
earlier steps too, retry what is parked, say that a call had no effect where that is true, and cancel.
"""

from dataclasses import dataclass, field
from uuid import UUID, uuid5

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from saga import (
    Cancelled,
    Category,
    Command,
    Done,
    Envelope,
    Faulted,
    Message,
    Parallel,
    Refused,
    Replayed,
    Revoked,
    Saga,
    SagaState,
    Status,
    Step,
    Verdict,
    decide,
    fold,
)
from saga.decide import start_message

SAGA_ID = UUID(int=7)
PARTNER = "partner"


class Call(Command, kind="partner.call"):
    """What each step commands."""

    step: str


class Undo(Command, kind="partner.undo"):
    """What its compensation commands."""

    step: str


class Nothing(BaseModel):
    """The data."""

    n: int = 0


def step(name: str) -> Step[Nothing]:
    return Step(name, lambda _: Call(step=name), compensation=lambda _: Undo(step=name))


@st.composite
def sagas(draw: st.DrawFn) -> Saga[Nothing]:
    """One to three groups of one or two steps."""
    sizes = draw(st.lists(st.integers(1, 2), min_size=1, max_size=3))
    groups = [[step(f"{x}{i}") for x in "ab"[:size]] for i, size in enumerate(sizes)]
    return Saga("calls", Nothing, tuple(g[0] if len(g) == 1 else Parallel(*g) for g in groups))


@dataclass
class World:
    """The partner, deliveries in each state, and the operator."""

    saga: Saga[Nothing]
    state: SagaState[Nothing] = field(default_factory=lambda: SagaState(SAGA_ID, Nothing()))
    pending: list[Envelope] = field(default_factory=list)
    started: list[Envelope] = field(default_factory=list)
    parked: list[Envelope] = field(default_factory=list)
    answers: list[Envelope] = field(default_factory=list)
    consumed: list[Envelope] = field(default_factory=list)
    sent: set[UUID] = field(default_factory=set)
    given_up: set[UUID] = field(default_factory=set)
    #: Commands that were run before, whatever came of it.
    called: set[UUID] = field(default_factory=set)
    #: Keys under which an effect stands, with the step.
    standing: dict[str, str] = field(default_factory=dict)

    def consume(self, message: Envelope) -> bool:
        """Let the saga decide; False if an operator is refused."""
        decision = decide(self.saga, self.state, message)
        superseded = [order for order in self.parked if order.id in decision.supersede]
        if decision.verdict is Verdict.REFUSED or (
            message.kind == Replayed.kind and len(superseded) < len(decision.supersede)
        ):
            return False  # as somebody has retried what is to be sent anew
        assert decision.verdict in (Verdict.APPLIED, Verdict.STALE)
        self.consumed.append(message)
        self.state = decision.state
        self.parked = [order for order in self.parked if order not in superseded]
        for order in decision.send:
            assert order.id not in self.sent, "an id is sent again"
            self.sent.add(order.id)
            self.pending.append(order)
        for root, name in decision.revoke:
            self.revoke(root, name)
        return True

    def revoke(self, root: UUID, name: str) -> None:
        self.given_up.add(root)
        taken = [o for o in (*self.pending, *self.parked) if o.id == root]
        self.pending = [o for o in self.pending if o.id != root]
        self.parked = [o for o in self.parked if o.id != root]
        self.answer(root, Revoked(step=name, revoked=bool(taken), started=root in self.called))

    def answer(self, root: UUID, said: Message) -> None:
        id = uuid5(root, f"{said.kind} {len(self.consumed)} {len(self.answers)}")
        self.answers.append(
            Envelope(
                id,
                said.kind,
                Category.REPLY,
                said.to_json(),
                saga_id=SAGA_ID,
                causation_id=root,
                root_id=root,
            )
        )

    def end(self, order: Envelope, how: str) -> None:
        """A run ends: "done", "no", or failed for good, "with" its effect or "without"."""
        self.called.add(order.id)
        key = order.idempotency_key(PARTNER)
        if order.kind == Undo.kind:
            assert order.undoes is not None
            if how in ("done", "no", "with"):
                self.standing.pop(order.undoes, None)
            how = "done" if how == "no" else how
        elif how in ("done", "with"):
            self.standing[key] = Call.from_json(order.payload).step
        elif how == "no" and key in self.standing:
            how = "done"  # the partner knows the call
        of = list(self.standing.values())
        assert len(of) == len(set(of)), "done twice under two keys"
        if how == "done":
            self.answer(order.id, Done())
        elif how == "no":
            self.answer(order.id, Refused(reason="no"))
        elif order.id in self.given_up:
            self.answer(order.id, Revoked(revoked=True, started=True))
        else:
            self.parked.append(order)
            fault = Faulted(consumer=PARTNER, message_kind=order.kind, error="cut", external=True)
            self.answer(order.id, fault)

    def act(self, message: Message) -> bool:
        id = uuid5(SAGA_ID, f"act {len(self.consumed)}")
        payload = message.to_json()
        return self.consume(Envelope(id, message.kind, Category.ACT, payload, saga_id=SAGA_ID))

    def operate(self, what: str, which: int) -> None:
        names = [step.name for step in self.saga]
        if what == "retry" and self.parked:
            self.pending.append(self.parked.pop(which % len(self.parked)))
        elif what == "cancel":
            self.act(Cancelled(reason="r"))
        elif what == "from":
            self.act(Replayed(reason="r", from_step=names[which % len(names)]))
        elif what == "replay":
            # Only of calls of which that is true.
            undoing = any(order.kind == Undo.kind for order in self.parked)
            keys = {order.idempotency_key(PARTNER) for order in self.parked}
            known = not undoing and not keys & self.standing.keys()
            self.act(Replayed(reason="r", no_effect=known and which % 2 == 0))

    def turn(self, what: int, which: int, how: str) -> None:
        """Let one thing happen: a start, an end, a delivery."""
        able = [things for things in (self.pending, self.started, self.answers) if things]
        if not able:
            return
        things = able[what % len(able)]
        thing = things.pop(which % len(things))
        if things is self.pending:
            self.started.append(thing)
        elif things is self.started:
            self.end(thing, how)
        else:
            self.consume(thing)


turns = st.lists(
    st.tuples(
        st.integers(0, 5),
        st.integers(0, 5),
        st.sampled_from(["done", "done", "with", "without", "no"]),
        st.sampled_from(["", "", "", "replay", "replay", "from", "retry", "cancel"]),
    ),
    max_size=90,
)


@settings(
    max_examples=150,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(sagas(), turns)
def test_one_effect_for_each_step_and_no_id_twice(
    saga: Saga[Nothing], turns: list[tuple[int, int, str, str]]
) -> None:
    world = World(saga)
    world.consume(start_message(saga, SAGA_ID, Nothing()))
    for what, which, how, act in turns:
        world.operate(act, which)
        world.turn(what, which, how)
    for _ in range(400):
        if world.state.status.final and not (world.pending or world.started or world.answers):
            break
        if world.pending or world.started or world.answers:
            world.turn(0, 0, "done")
        elif not world.act(Replayed(reason="r")):
            break
    assert world.state.status.final, world.state
    done = sorted(world.standing.values())
    completed = world.state.status is Status.COMPLETED
    assert done == (sorted(step.name for step in saga) if completed else [])
    assert fold(saga, SAGA_ID, world.consumed) == world.state
