"""A saga that is told in words, so that the tests of `decide` read like stories.

The traveller wants a flight, then a hotel and a car together, pays, and gets tickets and miles.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from uuid import UUID, uuid5

import pytest
from pydantic import BaseModel

from saga import (
    Category,
    Command,
    Done,
    Envelope,
    Event,
    Faulted,
    Message,
    Parallel,
    Refused,
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
ELSEWHERE = UUID(int=13)


class Trip(BaseModel):
    """The data: what the traveller does without, and what was kept of the outcomes."""

    #: Steps whose action is None.
    without: tuple[str, ...] = ()
    #: Steps whose compensation is None.
    nothing_to_undo: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


class Order(Command, kind="travel.order"):
    """What a step commands."""

    step: str


class Undo(Command, kind="travel.undo"):
    """What its compensation commands."""

    step: str
    kept: tuple[str, ...]


class Ordered(Event, kind="travel.ordered"):
    """Yes."""

    step: str


class Declined(Event, kind="travel.declined"):
    """No."""

    reason: str = ""


class Overheard(Event, kind="travel.overheard"):
    """What no step waits for."""


def step(name: str, *, event: bool = False, undo: bool = True, pivot: bool = False) -> Step[Trip]:
    """A step that ends with an event or else with a reply, and keeps its name in the data."""

    def action(trip: Trip) -> Order | None:
        return None if name in trip.without else Order(step=name)

    def keep(trip: Trip, outcome: Message) -> Trip:
        return trip.model_copy(update={"kept": (*trip.kept, name)})

    def compensation(trip: Trip) -> Undo | None:
        return None if name in trip.nothing_to_undo else Undo(step=name, kept=trip.kept)

    return Step(
        name,
        action,
        until=Ordered if event else None,
        rejected_by=Declined if event else (),
        on_success=keep,
        compensation=compensation if undo else None,
        pivot=pivot,
    )


#: Flight, then hotel and car together, then the point of no return.
BOOK_TRIP = Saga(
    name="book_trip",
    data=Trip,
    steps=(
        step("flight", event=True),
        Parallel(step("hotel", event=True), step("car")),
        step("payment", event=True, undo=False, pivot=True),
        Parallel(step("tickets", event=True, undo=False), step("miles", undo=False)),
    ),
)
#: A step in the middle that needs no undoing, and no pivot.
ASK_FIRST = Saga(
    name="ask_first",
    data=Trip,
    steps=(step("flight"), step("weather", undo=False), step("hotel")),
)
ALL_AT_ONCE = Saga(
    name="all_at_once",
    data=Trip,
    steps=(Parallel(step("flight"), step("hotel"), step("car")), step("payment")),
)

SAGAS = {saga.name: saga for saga in (BOOK_TRIP, ASK_FIRST, ALL_AT_ONCE)}


@dataclass
class Telling:
    """A saga that hears messages in words, such as "hotel says no further down".

    "further down" the choreography is what the command's own handler did not say itself; "a bare
    no" is a handler that raised, where the step has an event for it too.
    """

    saga: Saga[Trip]
    trip: Trip = field(default_factory=Trip)
    sent: dict[str, Envelope] = field(default_factory=dict)
    consumed: list[Envelope] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.state = SagaState(SAGA_ID, self.trip)

    def hear(self, words: str) -> str:
        """Consume what the words say; return what was sent for it, or the verdict."""
        message = self.message(words)
        before = replace(self.state)
        decision = decide(self.saga, self.state, message)
        assert decide(self.saga, self.state, message) == decision, "not the same twice"
        assert self.state == before
        if decision.verdict is not Verdict.UNEXPECTED:
            self.consumed.append(message)
            self.state = decision.state
        labels = []
        for order in decision.send:
            kinds: dict[str, type[Order | Undo]] = {Order.kind: Order, Undo.kind: Undo}
            command = kinds[order.kind].from_json(order.payload)
            labels.append("undo " * (order.kind == Undo.kind) + command.step)
            assert labels[-1] not in self.sent, "sent before"
            self.sent[labels[-1]] = order
        said = ", ".join(labels) or "-"
        return said if decision.verdict is Verdict.APPLIED else str(decision.verdict)

    def message(self, words: str) -> Envelope:
        """Return the message of these words; "again" is the very same, "another" is not."""
        words = words.removesuffix(" again")
        if words == "start":
            return start_message(self.saga, SAGA_ID, self.trip)
        if words.endswith(" parks at the saga"):
            return self.own_fault(words)
        label, _, saying = words.removeprefix("another ").partition(" says ")
        order = self.sent.get(label) or Envelope(ELSEWHERE, "travel.order", Category.COMMAND, "{}")
        return replace(
            order.caused(
                self.said(label, saying),
                id=uuid5(SAGA_ID, words),
                category=Category.REPLY,
                recipient=None,
                sender="travel",
            ),
            causation_id=uuid5(order.id, "x") if saying.endswith("further down") else order.id,
        )

    def said(self, label: str, saying: str) -> Message:
        by_event = any(step.name == label and step.until for step in self.saga)
        refused = Refused(reason="sold out")
        return {
            "yes": Ordered(step=label) if by_event else Done(),
            "no": Declined(reason="sold out") if by_event else refused,
            "no further down": Declined() if by_event else refused,
            "a bare no": refused,
            "a bare no further down": refused,
            "done": Done(),
            "fault": Faulted(consumer="travel", message_kind="travel.order", error="boom"),
            "something else": Overheard(),
        }[saying]

    def own_fault(self, words: str) -> Envelope:
        """A function of the saga raised on a message, which is parked at the saga itself."""
        parked = self.message(words.removesuffix(" parks at the saga"))
        fault = Faulted(consumer=f"saga.{self.saga.name}", message_kind=parked.kind, error="bug")
        return parked.caused(
            fault,
            id=uuid5(SAGA_ID, words),
            category=Category.REPLY,
            recipient=f"saga.{self.saga.name}",
            sender=f"saga.{self.saga.name}",
        )


@pytest.fixture
def told() -> Callable[..., Telling]:
    """Begin a saga and let it hear these words."""

    def told(*words: str, saga: str = "book_trip", **trip: tuple[str, ...]) -> Telling:
        telling = Telling(SAGAS[saga], Trip(**trip))
        for line in words:
            telling.hear(line)
        return telling

    return told


@pytest.fixture
def tell(told: Callable[..., Telling]) -> Callable[..., None]:
    """Check a story, line by line: what comes in | what is sent, or the verdict | the status.

    At the end the consumed messages are folded again, and the reason is looked at.
    """

    def tell(story: str, *, reason: str | None = None, **beginning: object) -> None:
        telling = told(**beginning)
        expected = [[cell.strip() for cell in line.split("|")] for line in story.split("\n")]
        expected = [cells for cells in expected if cells != [""]]
        assert expected == [
            [words, telling.hear(words), telling.state.status.value] for words, _, _ in expected
        ]
        assert fold(telling.saga, telling.state.id, telling.consumed) == telling.state
        if reason is not None:
            assert telling.state.reason == reason
        elif telling.state.status in (Status.RUNNING, Status.COMPLETED):
            assert telling.state.reason is None

    return tell
