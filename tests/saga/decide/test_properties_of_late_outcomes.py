"""However late outcomes are: what happened is undone after it happened, or the saga is completed.

Commands are handled, taken back, timed out and answered in any order.  In this world a command
that was not taken back has its effect some time, perhaps long after it was compensated.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID, uuid5

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from saga import (
    Category,
    Command,
    Done,
    Envelope,
    Message,
    Parallel,
    Refused,
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
from tests.progress import coming_to_an_end

SAGA_ID = UUID(int=7)
#: No saga consumes so many messages: who does goes round in a circle.
MOST = 2_000


class Do(Command, kind="late.do"):
    """What each step commands."""

    step: str


class Undo(Command, kind="late.undo"):
    """What its compensation commands."""

    step: str


class Nothing(BaseModel):
    """The data."""


def step(name: str, *, undo: bool, pivot: bool) -> Step[Nothing]:
    return Step(
        name,
        lambda _: Do(step=name),
        compensation=(lambda _: Undo(step=name)) if undo else None,
        pivot=pivot,
        timeout=timedelta(minutes=1),
    )


@st.composite
def sagas(draw: st.DrawFn) -> Saga[Nothing]:
    """One to four groups of one to three steps, all with a deadline, as may have the saga."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    pivot = draw(st.sampled_from([None, *(i for i, size in enumerate(sizes) if size == 1)]))
    groups: list[Step[Nothing] | Parallel[Nothing]] = []
    for index, size in enumerate(sizes):
        undo = pivot is None or index < pivot
        steps = [step(f"{x}{index}", undo=undo, pivot=index == pivot) for x in "abc"[:size]]
        groups.append(steps[0] if size == 1 else Parallel(*steps))
    deadline = draw(st.sampled_from([None, timedelta(hours=1)]))
    return Saga("late", Nothing, tuple(groups), deadline=deadline)


@dataclass
class World:
    """One inbox for all contexts, and what an onlooker wrote down."""

    saga: Saga[Nothing]
    #: Steps that say no, as long as the saga may turn back: "no" or "no further down".
    refusals: dict[str, str]
    state: SagaState[Nothing] = field(default_factory=lambda: SagaState(SAGA_ID, Nothing()))
    #: Commands that nobody has started, answers under way, deadlines that run.
    pending: list[Envelope] = field(default_factory=list)
    answers: list[Envelope] = field(default_factory=list)
    timers: list[Envelope] = field(default_factory=list)
    #: Commands that were started and will have their effect, though later.
    started: list[Envelope] = field(default_factory=list)
    consumed: list[Envelope] = field(default_factory=list)
    sent: set[UUID] = field(default_factory=set)
    standing: set[str] = field(default_factory=set)

    @property
    def still_open(self) -> list[Envelope]:
        """What will happen, however long nobody calls for it."""
        return [*self.pending, *self.started, *self.answers]

    def consume(self, message: Envelope) -> None:
        decision = decide(self.saga, self.state, message)
        assert decision.verdict in (Verdict.APPLIED, Verdict.STALE)
        self.consumed.append(message)
        self.state = decision.state
        for order in decision.send:
            assert order.id not in self.sent, "sent twice"
            self.sent.add(order.id)
            (self.timers if order.category is Category.TIMEOUT else self.pending).append(order)
        self.timers = [t for t in self.timers if t.id not in decision.clear]
        for root, name in decision.revoke:
            taken = any(order.id == root for order in self.pending)
            self.pending = [order for order in self.pending if order.id != root]
            self.answer(root, Revoked(step=name, revoked=taken))

    def answer(self, root: UUID, said: Message, cause: UUID | None = None) -> None:
        id = uuid5(root, f"{said.kind} {len(self.consumed)} {len(self.answers)}")
        self.answers.append(
            Envelope(
                id,
                said.kind,
                Category.REPLY,
                said.to_json(),
                saga_id=SAGA_ID,
                causation_id=cause or root,
                root_id=root,
            )
        )

    def take_effect(self, order: Envelope) -> None:
        """The context commits: from now on the effect stands, or stands no more."""
        name = Do.from_json(order.payload).step
        if order.kind == Undo.kind:
            self.standing.discard(name)
            self.answer(order.id, Done())
            return
        refusal = self.refusals.get(name)
        if refusal is None or self.saga.step(name).compensation is None:
            self.standing.add(name)
            self.answer(order.id, Done())
        elif refusal == "no":
            self.answer(order.id, Refused(reason="no"))
        else:
            self.standing.add(name)
            self.answer(order.id, Refused(reason="no"), uuid5(order.id, "further down"))

    def turn(self, what: int, which: int, *, in_time: bool) -> None:
        """Let one thing happen: a start, an effect, a delivery, or that a deadline passes."""
        lists = [self.pending, self.started, self.answers] + [self.timers] * (not in_time)
        able = [things for things in lists if things]
        things = able[what % len(able)]
        thing = things.pop(which % len(things))
        if things is self.pending:
            self.started.append(thing)
        elif things is self.started:
            self.take_effect(thing)
        else:
            self.consume(thing)


turns = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=80)
refusals = st.dictionaries(
    st.sampled_from(["a0", "b0", "a1", "b1", "c1", "a2", "a3"]),
    st.sampled_from(["no", "no further down"]),
    max_size=2,
)


@settings(
    max_examples=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(sagas(), refusals, turns)
def test_no_effect_stands_unless_the_saga_is_completed(
    saga: Saga[Nothing], refusals: dict[str, str], turns: list[tuple[int, int]]
) -> None:
    world = World(saga, refusals)
    with coming_to_an_end(60, lambda: f"{saga}, {refusals}, {turns}; open: {world.still_open}"):
        world.consume(start_message(saga, SAGA_ID, Nothing()))
        for what, which in turns:
            if world.still_open:
                world.turn(what, which, in_time=False)
        while world.still_open:
            assert len(world.consumed) < MOST, f"it goes round; open: {world.still_open[:9]}"
            world.turn(0, 0, in_time=True)

    assert world.state.status.final, world.state.reason
    names = {step.name for step in saga}
    completed = world.state.status is Status.COMPLETED
    assert world.standing == (names if completed else set())
    assert fold(saga, SAGA_ID, world.consumed) == world.state
    for message in (*world.consumed, *world.timers):  # all of it comes again, even later
        world.consume(message)
    assert not world.pending
    assert world.state.status is (Status.COMPLETED if completed else Status.COMPENSATED)
