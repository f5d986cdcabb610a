"""Envelopes: each message knows its saga, its cause and its root."""

from datetime import timedelta
from uuid import UUID

import pytest

from saga import Category, Command, Envelope, Event, PayloadError, Retry
from saga.envelope import command_recipient, saga_consumer


class ReserveFlight(Command, kind="flights.reserve"):
    """A command of a saga."""

    seats: int = 2


class FlightReserved(Event, kind="flights.reserved"):
    """What it sets off."""

    price: float = 100.0


ORDER = Envelope(
    id=UUID(int=1),
    kind="flights.reserve",
    category=Category.COMMAND,
    payload='{"seats":2}',
    saga_id=UUID(int=7),
    saga="book_trip",
    causation_id=UUID(int=9),
    root_id=UUID(int=1),
    recipient="flights",
    sender="saga.book_trip",
    awaits=("seating.assigned", "flights.unavailable"),
    retry=Retry(attempts=2, backoff=timedelta(seconds=3)),
    delay=4.0,
)


def caused_by(cause: Envelope, number: int) -> Envelope:
    """Return an event that the handling of `cause` publishes."""
    return cause.caused(
        FlightReserved(),
        id=UUID(int=number),
        category=Category.EVENT,
        recipient=None,
        sender="flights",
    )


def test_what_a_command_causes_is_of_the_same_saga_and_root() -> None:
    event = caused_by(ORDER, 2)
    assert event == Envelope(
        id=UUID(int=2),
        kind="flights.reserved",
        category=Category.EVENT,
        payload='{"price":100.0}',
        saga_id=ORDER.saga_id,
        saga="book_trip",
        causation_id=ORDER.id,
        root_id=ORDER.id,
        sender="flights",
        awaits=ORDER.awaits,
    )


def test_a_steps_retry_policy_is_its_commands_alone() -> None:
    assert caused_by(ORDER, 2).retry is None
    assert caused_by(ORDER, 2).delay == 0


def test_far_down_the_choreography_the_root_is_still_the_command() -> None:
    near = caused_by(ORDER, 2)
    far = caused_by(near, 3)
    assert (far.causation_id, far.root_id, far.awaits) == (near.id, ORDER.id, ORDER.awaits)


def test_outside_any_saga_the_first_message_is_the_root() -> None:
    first = Envelope(UUID(int=1), "flights.reserve", Category.COMMAND, "{}")
    event = caused_by(first, 2)
    assert (event.saga_id, event.saga, event.awaits) == (None, None, ())
    assert (event.causation_id, event.root_id) == (first.id, first.id)


def test_a_payload_that_json_cannot_hold_is_never_sent() -> None:
    with pytest.raises(PayloadError, match=r"flights\.reserved: field price"):
        ORDER.caused(
            FlightReserved(price=float("nan")),
            id=UUID(int=2),
            category=Category.EVENT,
            recipient=None,
            sender="flights",
        )


def test_a_command_goes_to_the_context_that_its_name_begins_with() -> None:
    assert command_recipient("flights.reserve") == "flights"
    assert command_recipient("flights.seats.reserve") == "flights"


def test_no_context_can_be_mistaken_for_a_sagas_inbox() -> None:
    assert saga_consumer("flights") == "saga.flights"
    assert "." not in command_recipient("saga.flights")
