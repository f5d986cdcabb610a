"""Testing: tell a saga as a story, without a database, a broker or a clock.

    given(BOOK_TRIP, trip)
        .expect(ReserveFlight(trip_id=trip.id, seats=2))
        .when(SeatingAssigned(seats=("1A", "1B")))
        .expect(BookHotel, RentCar)
        .rejected("hotel", "no rooms")
        .done("car")
        .expect(CancelCar)

A story never changes: each word returns a new one, so that two may share their beginning.
AssertionError says what is not as expected; what the saga's functions raise comes through.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, NoReturn, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import BaseModel

from saga.decide import decide, fold, start_message
from saga.definition import Saga
from saga.envelope import Category, Envelope
from saga.messages import Command, Done, Event, Faulted, Message, Refused, dump_json
from saga.state import IN_FLIGHT, SagaState, Status

D = TypeVar("D", bound=BaseModel)
Expected = Command | type[Command]

#: pytest then shows the line of the story that failed, and not this file.
__tracebackhide__ = True


def given(saga: Saga[D], data: D) -> "Story[D]":
    """Start a saga with this data and return its story."""
    id = uuid5(NAMESPACE_URL, f"story of {saga.name}")  # the same in every run
    return Story(saga, SagaState(id, data))._hear(start_message(saga, id, data))


@dataclass(frozen=True)
class Story(Generic[D]):
    """One saga, what it consumed so far, and what it sent."""

    saga: Saga[D]
    state: SagaState[D]
    #: All messages that it consumed, in order.
    consumed: tuple[Envelope, ...] = ()
    #: The commands that the last of them made it send.
    sent: tuple[Envelope, ...] = ()
    #: All commands so far, by their ids.
    orders: Mapping[UUID, Envelope] = field(default_factory=dict, repr=False)

    @property
    def data(self) -> D:
        """The saga's data as it is now."""
        return self.state.data

    def when(
        self, event: Event, step: str | None = None, *, downstream: bool = False
    ) -> "Story[D]":
        """Deliver an outcome event to the step that awaits it; name the step if several do.

        `downstream`: a rejection that not the command's own handler published but a later one.
        """
        orders = self._in_flight() if step is None else {step: self._order(step)}
        awaiting = [name for name, order in orders.items() if event.kind in order.awaits]
        if not awaiting:
            listed = [f"{name} awaits {' or '.join(o.awaits)}" for name, o in orders.items()]
            _fail(f"no step awaits {event.kind}: {'; '.join(listed) or self._where()}")
        if len(awaiting) > 1:
            _fail(f"{' and '.join(awaiting)} await {event.kind}; say which: step={awaiting[0]!r}")
        return self._tell(awaiting[0], event, downstream)

    def done(self, step: str) -> "Story[D]":
        """The handler of the step's command, or of its compensation, is done."""
        awaits = self._order(step).awaits
        if Done.kind not in awaits:
            _fail(f"step {step!r} is not ended by a reply but by {awaits[0]}: use when()")
        return self._tell(step, Done())

    def rejected(self, step: str, reason: str, *, downstream: bool = False) -> "Story[D]":
        """A handler raised `Rejected`: the command's own one, unless `downstream`."""
        return self._tell(step, Refused(reason=reason), downstream)

    def faulted(self, step: str, error: str) -> "Story[D]":
        """The delivery of the step's command, or of its compensation, is parked."""
        order = self._order(step)
        fault = Faulted(consumer=order.recipient or "", message_kind=order.kind, error=error)
        return self._tell(step, fault)

    def again(self) -> "Story[D]":
        """Deliver the last message once more; fails if that has any effect."""
        after = self._hear(self.consumed[-1])
        if after.sent or replace(after.state, consumed=self.state.consumed) != self.state:
            _fail(f"a second {self.consumed[-1].kind} had an effect: now {after._where()}")
        return after

    def expect(self, *commands: Expected) -> "Story[D]":
        """The last message sent just these, in any order; a class is any command of it."""
        if lines := _differences(commands, self.sent):
            _fail("\n  ".join([f"after {self.consumed[-1].kind}", *lines, self._where()]))
        return self

    def expect_nothing(self) -> "Story[D]":
        """The last message made the saga send nothing."""
        return self.expect()

    def expect_completed(self) -> "Story[D]":
        """All is done."""
        return self._expect_status(Status.COMPLETED)

    def expect_compensated(self) -> "Story[D]":
        """All is undone."""
        return self._expect_status(Status.COMPENSATED)

    def expect_stuck(self, reason_contains: str = "") -> "Story[D]":
        """A person is needed, for a reason that contains this text."""
        if reason_contains not in (self.state.reason or ""):
            _fail(f"expected a reason with {reason_contains!r}, but {self._where()}")
        return self._expect_status(Status.STUCK)

    def _expect_status(self, status: Status) -> "Story[D]":
        if self.state.status is not status:
            _fail(f"expected {status}, but {self._where()}")
        if (folded := fold(self.saga, self.state.id, self.consumed)) != self.state:
            _fail(
                f"the same messages lead to another state of {self.saga.name}: one of its "
                "functions is not pure, or its data does not come back equal from JSON\n"
                f"  in the story: {self.state}\n  folded again: {folded}"
            )
        return self

    def _in_flight(self) -> dict[str, Envelope]:
        """The outstanding commands, by the names of their steps."""
        id, steps = self.state.command_id, self.state.steps.items()
        flying = {n: id(n, s.phase, s.generation) for n, s in steps if s.phase in IN_FLIGHT}
        return {name: self.orders[order] for name, order in flying.items()}

    def _order(self, step: str) -> Envelope:
        if step not in (names := [s.name for s in self.saga]):
            _fail(f"{self.saga.name} has no step {step!r}; it has {', '.join(names)}")
        if (order := self._in_flight().get(step)) is None:
            _fail(f"step {step!r} awaits nothing; {self._where()}")
        return order

    def _tell(self, step: str, message: Message, downstream: bool = False) -> "Story[D]":
        order = self._order(step)
        is_event = isinstance(message, Event)
        envelope = order.caused(
            message,
            id=uuid5(self.state.id, f"message {len(self.consumed)}"),
            category=Category.EVENT if is_event else Category.REPLY,
            recipient=None if is_event else order.sender,
            sender=order.recipient,
        )
        cause = uuid5(order.id, "downstream") if downstream else order.id
        return self._hear(replace(envelope, causation_id=cause))

    def _hear(self, message: Envelope) -> "Story[D]":
        """Consume a message as a worker does: the data is stored, and read back next time."""
        decision = decide(self.saga, self.state, message)
        text = dump_json(decision.state.data, f"{self.saga.name}: the data after {message.kind}")
        state = replace(decision.state, data=self.saga.data.model_validate_json(text))
        orders = {**self.orders, **{order.id: order for order in decision.send}}
        return Story(self.saga, state, (*self.consumed, message), decision.send, orders)

    def _where(self) -> str:
        because = f", because {self.state.reason}" if self.state.reason else ""
        flying = f"; in flight: {', '.join(names)}" if (names := self._in_flight()) else ""
        return f"{self.saga.name} is {self.state.status}{because}{flying}"


def _differences(expected: Sequence[Expected], sent: Sequence[Envelope]) -> list[str]:
    """What is other than expected, missing or too much; empty if nothing is."""
    surplus, missing, lines = list(sent), [], []
    for want in sorted(expected, key=lambda want: isinstance(want, type)):  # the exact ones first
        if match := next((order for order in surplus if not _unlike(want, order)), None):
            surplus.remove(match)
        else:
            missing.append(want)
    for want in missing:
        if near := next((order for order in surplus if order.kind == want.kind), None):
            surplus.remove(near)
        lines += _unlike(want, near)
    return lines + [f"sent, not expected: {order.kind} {order.payload}" for order in surplus]


def _unlike(want: Expected, order: Envelope | None) -> list[str]:
    text = want.to_json() if isinstance(want, Command) else ""
    if order is None or order.kind != want.kind:
        return [f"not sent: {want.kind} {text}".rstrip()]
    got, wanted = json.loads(order.payload), json.loads(text or order.payload)
    names = [name for name in {**wanted, **got} if got.get(name) != wanted.get(name)]
    return [f"{want.kind}: {n} is {got.get(n)!r}, not {wanted.get(n)!r}" for n in names]


def _fail(text: str) -> NoReturn:
    raise AssertionError(text)
