"""`decide`: the messages it sends, the state it leaves, and what it raises."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from saga import (
    Category,
    Command,
    Direction,
    Done,
    Envelope,
    Event,
    Faulted,
    Message,
    PayloadError,
    Phase,
    Refused,
    Retry,
    Saga,
    SagaState,
    Started,
    Status,
    Step,
    decide,
    fold,
)
from saga.decide import start_message
from saga.state import start_id

SAGA_ID = UUID(int=7)

Told = Callable[..., Any]


# The messages


class ReserveFlight(Command, kind="flights.reserve"):
    """Said to flights."""


class SeatingAssigned(Event, kind="seating.assigned"):
    """Two contexts further down."""

    seats: tuple[str, ...]


class FlightUnavailable(Event, kind="flights.unavailable"):
    """No seat."""


class CancelFlight(Command, kind="flights.cancel"):
    """Carries what was kept of the outcome."""

    seats: tuple[str, ...]


class BookHotel(Command, kind="hotels.book"):
    """The step after it."""


class Seats(BaseModel):
    """The data."""

    seats: tuple[str, ...] = ()


POLICY = Retry(attempts=2)

FLY = Saga(
    name="fly",
    data=Seats,
    steps=(
        Step(
            "flight",
            lambda _: ReserveFlight(),
            until=SeatingAssigned,
            rejected_by=FlightUnavailable,
            on_success=lambda _, event: Seats(seats=event.seats),
            compensation=lambda data: CancelFlight(seats=data.seats),
            retry=POLICY,
        ),
        Step("hotel", lambda _: BookHotel()),
    ),
)


def answer(order: Envelope, message: Message, number: int) -> Envelope:
    return order.caused(
        message, id=UUID(int=number), category=Category.EVENT, recipient=None, sender="x"
    )


def test_the_start_holds_the_data_and_is_its_own_root() -> None:
    start = start_message(FLY, SAGA_ID, Seats(seats=("1A",)))
    assert start == Envelope(
        id=start_id(SAGA_ID),
        kind=Started.kind,
        category=Category.COMMAND,
        payload='{"seats":["1A"]}',
        saga_id=SAGA_ID,
        saga="fly",
        root_id=start_id(SAGA_ID),
        recipient="saga.fly",
    )


def test_a_command_says_where_it_goes_what_caused_it_and_what_it_awaits() -> None:
    start = start_message(FLY, SAGA_ID, Seats())
    state = SagaState(SAGA_ID, Seats())
    (order,) = decide(FLY, state, start).send
    expected_id = state.command_id("flight", Phase.COMMANDED, 1)
    assert order == Envelope(
        id=expected_id,
        kind="flights.reserve",
        category=Category.COMMAND,
        payload="{}",
        saga_id=SAGA_ID,
        saga="fly",
        causation_id=start.id,
        root_id=expected_id,
        recipient="flights",
        sender="saga.fly",
        awaits=("seating.assigned", "flights.unavailable"),
        retry=POLICY,
    )


def test_a_compensation_knows_the_outcome_and_awaits_its_own_handler_only() -> None:
    state = SagaState(SAGA_ID, Seats())
    first = decide(FLY, state, start_message(FLY, SAGA_ID, Seats()))
    second = decide(FLY, first.state, answer(first.send[0], SeatingAssigned(seats=("1A",)), 1))
    no = answer(second.send[0], Refused(reason="no rooms"), 2)
    (undo,) = decide(FLY, second.state, no).send
    expected_id = state.command_id("flight", Phase.COMPENSATING, 1)
    assert undo == Envelope(
        id=expected_id,
        kind="flights.cancel",
        category=Category.COMMAND,
        payload='{"seats":["1A"]}',
        saga_id=SAGA_ID,
        saga="fly",
        causation_id=no.id,
        root_id=expected_id,
        recipient="flights",
        sender="saga.fly",
        awaits=("saga.done",),
        undoes=f"flights:{first.send[0].id}",
    )


def test_the_same_decision_made_elsewhere_sends_the_same_messages(told: Told) -> None:
    words = ("start", "flight says yes", "hotel says yes", "car says no", "undo hotel says done")
    one, other = told(*words), told(*words)
    assert one.sent == other.sent
    assert len({order.id for order in one.sent.values()}) == len(one.sent) == 5


def test_a_new_generation_of_a_step_is_a_new_command_and_the_old_one_is_late(told: Told) -> None:
    telling = told("start", "flight says fault")
    old = telling.sent["flight"]
    telling.state = telling.state.with_step("flight", generation=2, fault=None)
    new_id = telling.state.command_id("flight", Phase.COMMANDED, 2)
    assert new_id != old.id
    assert telling.hear("flight says yes") == "stale"
    telling.sent["flight"] = replace(old, id=new_id, root_id=new_id)
    assert telling.hear("another flight says yes") == "hotel, car"


# The state


def test_outcomes_are_kept_in_the_order_they_came(told: Told) -> None:
    state = told("start", "flight says yes", "car says yes", "hotel says yes").state
    assert state.data.kept == ("flight", "car", "hotel")
    positions = {name: step.position for name, step in state.steps.items()}
    assert positions == {"flight": 2, "car": 3, "hotel": 4, "payment": None}


def test_a_repeated_message_is_counted_and_changes_nothing_else(told: Told) -> None:
    telling = told("start", "flight says yes")
    before = telling.state
    assert telling.hear("flight says yes again") == "stale"
    assert telling.state == replace(before, consumed=3)


def test_a_second_outcome_is_not_kept(told: Told) -> None:
    telling = told("start", "flight says yes", "another flight says yes")
    assert telling.state.data.kept == ("flight",)


def test_an_unexpected_message_leaves_the_state_as_it_was(told: Told) -> None:
    telling = told("start")
    decision = decide(telling.saga, telling.state, telling.message("nobody says yes"))
    assert decision.state == telling.state


def test_a_stuck_saga_remembers_its_direction(told: Told) -> None:
    forward = told("start", "flight says fault").state
    backward = told(
        *("start", "flight says yes", "weather says no", "undo flight says no"), saga="ask_first"
    ).state
    assert forward.status is backward.status is Status.STUCK
    assert forward.direction is Direction.FORWARD
    assert backward.direction is Direction.BACKWARD


@pytest.mark.parametrize(
    ("words", "phase"),
    [
        ("flight says no", Phase.REJECTED),
        ("flight says no further down", Phase.COMPENSATING),
        ("flight says yes", Phase.DONE),
        ("flight says fault", Phase.COMMANDED),
    ],
)
def test_each_outcome_has_its_phase(told: Told, words: str, phase: Phase) -> None:
    assert told("start", words).state.steps["flight"].phase is phase


def test_what_needs_no_undoing_stays_done_and_is_no_obstacle(told: Told) -> None:
    words = ("flight says yes", "weather says yes", "hotel says no", "undo flight says done")
    state = told("start", *words, saga="ask_first").state
    assert state.status is Status.COMPENSATED
    assert {name: step.phase for name, step in state.steps.items()} == {
        "flight": Phase.COMPENSATED,
        "weather": Phase.DONE,
        "hotel": Phase.REJECTED,
    }


def test_folding_every_beginning_of_a_story_gives_its_state_then(told: Told) -> None:
    telling = told()
    for words in ("start", "flight says fault", "flight says yes", "car says no", "car says no"):
        telling.hear(words)
        assert fold(telling.saga, SAGA_ID, telling.consumed) == telling.state


def test_a_fault_of_the_saga_itself_is_told_by_its_message(told: Told) -> None:
    telling = told("start", "flight says yes parks at the saga")
    parked = telling.message("flight says yes").id
    assert telling.state.faults == {parked: "travel.ordered is parked at saga.book_trip: bug"}
    assert telling.state.steps["flight"].fault is None
    telling.hear("flight says yes")
    assert telling.state.faults == {}


def test_a_fault_at_another_saga_is_not_its_own(told: Told) -> None:
    telling = told("start")
    fault = Faulted(consumer="saga.other", message_kind="x.y", error="bug")
    state = decide(telling.saga, telling.state, answer(telling.sent["flight"], fault, 1)).state
    assert state.faults == {}
    assert state.steps["flight"].fault == "x.y is parked at saga.other: bug"


# What it raises


@pytest.mark.parametrize("words", ["flight says yes", "flight says no", "flight says a bare no"])
def test_an_outcome_that_cannot_be_read_moves_nothing(told: Told, words: str) -> None:
    telling = told("start")
    message = telling.message(words)
    with pytest.raises(PayloadError, match=message.kind):
        decide(telling.saga, telling.state, replace(message, payload="[]"))
    assert telling.state == told("start").state


def refuse(*arguments: Any) -> Any:
    raise ZeroDivisionError("a bug in the definition")


@pytest.mark.parametrize(
    ("step", "role", "outcome"),
    [
        ("hotel", "action", SeatingAssigned(seats=("1A",))),
        ("flight", "on_success", SeatingAssigned(seats=("1A",))),
        ("flight", "compensation", Refused(reason="further down")),
    ],
)
def test_what_a_function_of_the_saga_raises_comes_out(
    step: str, role: str, outcome: Message
) -> None:
    bug: dict[str, Any] = {role: refuse}
    steps: tuple[Any, ...] = tuple(
        replace(each, **bug) if each.name == step else each for each in FLY
    )
    buggy = replace(FLY, steps=steps)
    begun = decide(buggy, SagaState(SAGA_ID, Seats()), start_message(buggy, SAGA_ID, Seats()))
    message = replace(answer(begun.send[0], outcome, 1), causation_id=UUID(int=99))
    with pytest.raises(ZeroDivisionError, match="a bug in the definition"):
        decide(buggy, begun.state, message)


def test_a_command_that_json_cannot_hold_is_not_sent() -> None:
    class Price(Command, kind="travel.price"):
        amount: float

    priced = Saga("priced", Seats, (Step("price", lambda _: Price(amount=float("nan"))),))
    with pytest.raises(PayloadError, match=r"travel\.price: field amount"):
        decide(priced, SagaState(SAGA_ID, Seats()), start_message(priced, SAGA_ID, Seats()))


def test_data_that_postgres_cannot_hold_starts_no_saga() -> None:
    with pytest.raises(PayloadError, match="the data of fly: a text contains a NUL"):
        start_message(FLY, SAGA_ID, Seats(seats=("\0",)))


class Unnamed(Command):
    """A family of commands, which no message is ever sent as."""


@pytest.mark.parametrize("wrong", [Unnamed(), SeatingAssigned(seats=()), {"seats": 2}, 7])
def test_what_is_not_a_command_is_not_sent(wrong: Any) -> None:
    odd = Saga("odd", Seats, (Step("flight", lambda _: wrong),))
    with pytest.raises(TypeError, match="step 'flight' of odd must command with a Command"):
        decide(odd, SagaState(SAGA_ID, Seats()), start_message(odd, SAGA_ID, Seats()))


@pytest.mark.parametrize("wrong", [None, {"seats": ["1A"]}])
def test_a_step_must_leave_the_sagas_data(wrong: Any) -> None:
    odd = Saga("odd", Seats, (Step("hotel", lambda _: BookHotel(), on_success=lambda *_: wrong),))
    begun = decide(odd, SagaState(SAGA_ID, Seats()), start_message(odd, SAGA_ID, Seats()))
    with pytest.raises(TypeError, match="on_success of step 'hotel' must return a Seats, not"):
        decide(odd, begun.state, answer(begun.send[0], Done(), 1))


@pytest.mark.parametrize("beginning", [(), ("flight says yes",)])
def test_a_fold_begins_with_the_start(told: Told, beginning: tuple[str, ...]) -> None:
    telling = told("start")
    messages = [telling.message(words) for words in beginning]
    with pytest.raises(ValueError, match=r"begins with saga\.started"):
        fold(telling.saga, SAGA_ID, messages)
