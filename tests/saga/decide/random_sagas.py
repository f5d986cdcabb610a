"""Sagas that Hypothesis invents, and a small world of contexts that carry out their commands."""

from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

from hypothesis import note
from hypothesis import strategies as st
from pydantic import BaseModel

from saga import (
    Category,
    Command,
    Decision,
    Done,
    Envelope,
    Event,
    Faulted,
    Message,
    Parallel,
    Phase,
    Refused,
    Revoked,
    Saga,
    SagaState,
    Step,
    Verdict,
    decide,
)
from saga.decide import start_message
from saga.diagram import FIRST_PHASES
from saga.state import IN_FLIGHT, STEP_TRANSITIONS, TRANSITIONS
from tests.progress import coming_to_an_end

SAGA_ID = UUID(int=7)


OWN_INBOX = "saga.process"


#: No process consumes so many messages: who does goes round in a circle.
MOST = 2_000


#: Messages that tell of no effect.
IDLE = (Faulted.kind, Revoked.kind)


class Do(Command, kind="work.do"):
    """What each step commands."""

    step: str
    done_before: tuple[str, ...]


class Undo(Command, kind="work.undo"):
    """What its compensation commands."""

    step: str


class Did(Event, kind="work.did"):
    """Yes."""


class Declined(Event, kind="work.declined"):
    """No."""


class Log(BaseModel):
    """The data: the steps in the order in which they were done."""

    done: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How one step is defined, and how the world takes its command."""

    by_event: bool
    #: "command", "nothing to do" or "none".
    undo: str
    skipped: bool
    #: "yes", "no" or "no further down".
    answer: str
    #: What parks before the answer comes after all: the order, the undoing.
    parks: tuple[bool, bool]
    #: Whether its command can be taken back as long as no answer of it was delivered.
    revocable: bool


plans = st.builds(
    Plan,
    by_event=st.booleans(),
    undo=st.sampled_from(["command", "command", "command", "nothing to do", "none"]),
    skipped=st.sampled_from([False, False, False, False, True]),
    answer=st.sampled_from(["yes", "yes", "yes", "yes", "yes", "no", "no further down"]),
    parks=st.tuples(st.booleans(), st.booleans()),
    revocable=st.booleans(),
)


@dataclass(frozen=True)
class Process:
    """A saga, and the plan of each of its steps."""

    saga: Saga[Log]
    plans: dict[str, Plan]


@dataclass(frozen=True)
class Turn:
    """What is delivered next, and how."""

    #: The how-manieth of the messages under way.
    which: int = 0
    #: "once", "again" (it will come once more), "in other words" (and so will this one, which
    #: says the same under another id: it was published twice) or "parked" (it comes later).
    comes: str = "once"
    #: A message of long ago that is delivered after it.
    old_news: int | None = None


def schedules(*ways: str) -> st.SearchStrategy[list[Turn]]:
    turns = st.builds(
        Turn,
        which=st.integers(0, 5),
        comes=st.sampled_from(ways),
        old_news=st.none() | st.integers(0, 30),
    )
    return st.lists(turns, max_size=40)


@st.composite
def processes(draw: st.DrawFn) -> Process:
    """One to five groups of one to three steps, perhaps with a pivot among them."""
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    alone = [index for index, size in enumerate(sizes) if size == 1]
    pivot = draw(st.sampled_from([None, *alone]))
    drawn: dict[str, Plan] = {}
    groups: list[Step[Log] | Parallel[Log]] = []
    for index, size in enumerate(sizes):
        steps = []
        for letter in "abc"[:size]:
            plan = draw(plans)
            if pivot is not None and index >= pivot:
                plan = replace(plan, undo="none")
            if index == pivot and plan.answer == "no further down":
                plan = replace(plan, answer="no")  # it would be stuck with a part of it done
            if pivot is not None and index > pivot:
                plan = replace(plan, answer="yes")  # from there on a no would leave it stuck
            drawn[f"{letter}{index}"] = plan
            steps.append(step(f"{letter}{index}", plan, pivot=index == pivot))
        groups.append(steps[0] if size == 1 else Parallel(*steps))
    return Process(Saga("process", Log, tuple(groups)), drawn)


def step(name: str, plan: Plan, *, pivot: bool) -> Step[Log]:
    def action(log: Log) -> Do | None:
        return None if plan.skipped else Do(step=name, done_before=log.done)

    def compensation(log: Log) -> Undo | None:
        return Undo(step=name) if plan.undo == "command" else None

    return Step(
        name,
        action,
        until=Did if plan.by_event else None,
        rejected_by=Declined if plan.by_event else (),
        on_success=lambda log, _: Log(done=(*log.done, name)),
        compensation=None if plan.undo == "none" else compensation,
        pivot=pivot,
    )


@dataclass
class World:
    """The contexts, the messages under way, and what an onlooker wrote down."""

    process: Process
    state: SagaState[Log] = field(default_factory=lambda: SagaState(SAGA_ID, Log()))
    under_way: list[Envelope] = field(default_factory=list)
    consumed: list[Envelope] = field(default_factory=list)
    sent: dict[UUID, Envelope] = field(default_factory=dict)
    #: Steps whose effects stand now, and those that the saga learned of, in that order.
    standing: set[str] = field(default_factory=set)
    learned: list[str] = field(default_factory=list)
    #: By how many messages the saga had consumed when it learned of each.
    learned_by: dict[str, int] = field(default_factory=dict)
    undone: list[str] = field(default_factory=list)
    #: Commands below which a delivery was parked, by that delivery's message.
    parked: dict[UUID, Envelope] = field(default_factory=dict)

    def start(self) -> None:
        self.consume(start_message(self.process.saga, SAGA_ID, Log()))

    def consume(self, message: Envelope) -> Decision[Log]:
        """Let the saga decide, look at how it moved, and carry out what it sends."""
        before = self.state
        decision = decide(self.process.saga, before, message)
        assert decision == decide(self.process.saga, before, message)
        assert decision.verdict is not Verdict.UNEXPECTED
        self.consumed.append(message)
        self.state = decision.state
        assert_moved_along_the_tables(before, decision.state)
        if before.status.final:
            assert decision == Decision(
                replace(before, consumed=before.consumed + 1), (), Verdict.STALE
            )
        if decision.verdict is Verdict.STALE:
            assert not decision.send
        self.learn(message)
        self.supersede(message, decision)
        for order in decision.send:
            self.carry_out(order)
        for root, name in decision.revoke:
            self.revoke(self.sent[root], name)
        return decision

    def revoke(self, order: Envelope, name: str) -> None:
        """Take the command back if nobody started it, and say whether it was."""
        started = any(message.root_id == order.id for message in self.consumed)
        taken = self.process.plans[name].revocable and not started
        if taken:
            self.under_way = [m for m in self.under_way if m.root_id != order.id]
            self.standing.discard(name)
        self.answer(order, Revoked(step=name, revoked=taken), parks=False)

    def supersede(self, message: Envelope, decision: Decision[Log]) -> None:
        """Nobody may deliver again what is superseded, so no answer comes of it but one that came
        already, and is parked at the saga; the saga knows that hops before it had their effect."""
        if message.kind == Faulted.kind and message.root_id in self.sent:
            assert message.causation_id is not None
            self.parked[message.causation_id] = self.sent[message.root_id]
        for id in decision.supersede:
            came = self.state.faults
            self.under_way = [m for m in self.under_way if m.causation_id != id or m.id in came]
            self.note_learned(Do.from_json(self.parked[id].payload).step)

    def note_learned(self, name: str) -> None:
        """The names of two that one message tells of are their order."""
        if name in self.learned:
            return
        self.learned.append(name)
        self.learned_by[name] = len(self.consumed)
        self.learned.sort(key=lambda name: (self.learned_by[name], name))

    def learn(self, message: Envelope) -> None:
        """Write down that the saga heard of an effect for the first time."""
        order = self.sent.get(message.root_id or SAGA_ID)
        if order is None or order.kind != Do.kind or message.kind in IDLE:
            return
        name = Do.from_json(order.payload).step
        if self.process.plans[name].answer != "no":
            self.note_learned(name)

    def carry_out(self, order: Envelope) -> None:
        assert order.id not in self.sent, "sent twice"
        again = [
            o for o in self.sent.values() if (o.kind, o.payload) == (order.kind, order.payload)
        ]
        assert not again, "sent twice under different ids"
        self.sent[order.id] = order
        if order.kind == Undo.kind:
            name = Undo.from_json(order.payload).step
            assert name in self.standing, "undone, but there was no effect"
            assert name in self.learned, "undone before its outcome was known"
            self.standing.remove(name)
            self.undone.append(name)
            self.answer(order, Done(), parks=self.process.plans[name].parks[1])
            return
        do = Do.from_json(order.payload)
        plan = self.process.plans[do.step]
        assert do.done_before == tuple(n for n in self.learned if self.is_done(n))
        if plan.answer != "no":
            self.standing.add(do.step)
        yes = Did() if plan.by_event else Done()
        no = Declined() if plan.by_event else Refused(reason="no")
        self.answer(order, yes if plan.answer == "yes" else no, parks=plan.parks[0], plan=plan)

    def is_done(self, name: str) -> bool:
        return self.process.plans[name].answer == "yes"

    def answer(
        self, order: Envelope, message: Message, *, parks: bool, plan: Plan | None = None
    ) -> None:
        """Put the answer under way, and perhaps that the delivery was parked before."""
        fault = Faulted(consumer="work", message_kind=order.kind, error="boom")
        for said in (fault, message) if parks else (message,):
            envelope = order.caused(
                said,
                id=uuid5(order.id, said.kind),
                category=Category.REPLY,
                recipient=None,
                sender="work",
            )
            if plan is not None and plan.answer == "no further down":
                envelope = replace(envelope, causation_id=uuid5(order.id, "further down"))
            self.under_way.append(envelope)

    def deliver(self, turns: list[Turn]) -> None:
        """Deliver all that is under way: turn by turn, then what is left, as it was sent."""
        remaining = iter(turns)
        most = len(self.consumed) + MOST
        while self.under_way:
            assert len(self.consumed) < most, f"it goes round; under way: {self.under_way[:9]}"
            turn = next(remaining, Turn())
            message = self.under_way[turn.which % len(self.under_way)]
            if turn.comes == "once":
                self.under_way.remove(message)
            if turn.comes == "in other words":
                message = replace(message, id=uuid5(message.id, str(len(self.consumed))))
            self.consume(own_fault(message) if turn.comes == "parked" else message)
            if turn.old_news is not None:
                news = [m for m in self.consumed if m.sender != OWN_INBOX]
                self.consume(news[turn.old_news % len(news)])


def own_fault(message: Envelope) -> Envelope:
    """One of the saga's functions raised on this message, and it is parked at the saga."""
    return message.caused(
        Faulted(consumer=OWN_INBOX, message_kind=message.kind, error="bug"),
        id=uuid5(message.id, "parked"),
        category=Category.REPLY,
        recipient=OWN_INBOX,
        sender=OWN_INBOX,
    )


def assert_moved_along_the_tables(before: SagaState[Log], after: SagaState[Log]) -> None:
    assert after.status in (before.status, *TRANSITIONS[before.status])
    assert after.consumed == before.consumed + 1
    for name, moved in after.steps.items():
        if name not in before.steps:
            assert moved.phase in FIRST_PHASES
        else:
            assert moved.phase in reachable(before.steps[name].phase)
    assert set(before.steps) <= set(after.steps)
    flying = [s.phase for s in after.steps.values() if s.phase in IN_FLIGHT]
    assert Phase.COMPENSATING not in flying or len(flying) == 1, "undone side by side"


def reachable(phase: Phase) -> set[Phase]:
    """Phases that one decision may lead to: an outcome, and at once what follows from it."""
    reached, ahead = set[Phase](), [phase]
    while ahead:
        if (following := ahead.pop()) not in reached:
            reached.add(following)
            ahead += STEP_TRANSITIONS[following]
    return reached


def told(process: Process, turns: list[Turn]) -> World:
    """Run the process to its end."""
    note("\n".join(f"{name}: {plan}" for name, plan in process.plans.items()))
    world = World(process)
    with coming_to_an_end(60, lambda: f"{process.plans}, {turns}; under way: {world.under_way}"):
        world.start()
        world.deliver(turns)
    return world
