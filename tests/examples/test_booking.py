"""The saga as a value: what each step commands and keeps, without anything running."""

from collections.abc import Callable
from typing import Any

import pytest

from examples.travel.booking import BOOK_TRIP
from examples.travel.contexts import ALL_CONTEXTS
from examples.travel.messages import (
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
    ChargeCard,
    DocumentsIssued,
    HotelBooked,
    IssueDocuments,
    RentCar,
    ReserveFlight,
    SeatingAssigned,
)
from examples.travel.trips import Trip
from saga import Command

#: The steps, whose functions are called as a saga calls them.
STEPS: tuple[Any, ...] = tuple(BOOK_TRIP)


def step(name: str) -> Any:
    return BOOK_TRIP.step(name)


def test_each_step_commands_what_the_trip_says(new_trip: Callable[..., Trip]) -> None:
    trip = new_trip(seats=("1A", "1B"), travellers=3)
    of_trip = {"trip_id": trip.trip_id}
    assert [step.action(trip) for step in STEPS] == [
        ReserveFlight(**of_trip, flight=trip.flight, seats=3),
        BookHotel(**of_trip, destination="BOS", rooms=2, nights=2),
        RentCar(**of_trip, destination="BOS", days=2),
        ChargeCard(
            **of_trip, traveller=trip.traveller, card=trip.card, amount_cents=trip.amount_cents
        ),
        IssueDocuments(
            **of_trip,
            reference=trip.reference,
            traveller=trip.traveller,
            flight=trip.flight,
            seats=("1A", "1B"),
        ),
    ]


def test_what_came_before_the_pivot_is_undone(new_trip: Callable[..., Trip]) -> None:
    trip = new_trip()
    undo = [step.compensation(trip) for step in STEPS if step.compensation is not None]
    assert undo == [
        CancelFlight(trip_id=trip.trip_id),
        CancelHotel(trip_id=trip.trip_id),
        CancelCar(trip_id=trip.trip_id),
    ]
    assert BOOK_TRIP.pivot == "payment"


def test_who_wants_neither_hotel_nor_car_skips_them(new_trip: Callable[..., Trip]) -> None:
    trip = new_trip(nights=0, wants_car=False)
    assert step("hotel").action(trip) is None
    assert step("car").action(trip) is None


def test_a_car_without_a_night_is_for_a_day(new_trip: Callable[..., Trip]) -> None:
    command = step("car").action(new_trip(nights=0))
    assert isinstance(command, RentCar)
    assert command.days == 1


def test_outcomes_are_kept_in_a_new_trip(new_trip: Callable[..., Trip]) -> None:
    trip = new_trip()
    trip_id = trip.trip_id
    kept = trip
    for name, event in (
        (
            "flight",
            SeatingAssigned(trip_id=trip_id, reservation=1, flight=trip.flight, seats=("1A",)),
        ),
        ("hotel", HotelBooked(trip_id=trip_id, destination="BOS", rooms=("BOS-0001",))),
        (
            "documents",
            DocumentsIssued(
                trip_id=trip_id,
                reference=trip.reference,
                traveller=trip.traveller,
                flight=trip.flight,
                tickets=("ETKT 1",),
            ),
        ),
    ):
        on_success = BOOK_TRIP.step(name).on_success
        assert on_success is not None
        kept = on_success(kept, event)
    assert (kept.seats, kept.rooms, kept.tickets) == (("1A",), ("BOS-0001",), ("ETKT 1",))
    assert (trip.seats, trip.rooms, trip.tickets) == ((), (), ())


def test_one_key_for_one_trip(new_trip: Callable[..., Trip]) -> None:
    assert BOOK_TRIP.key is not None
    assert BOOK_TRIP.key(new_trip(7)) == "TRIP-7"


@pytest.mark.parametrize("wants", [{}, {"nights": 0, "wants_car": False}])
def test_some_context_handles_every_command(
    new_trip: Callable[..., Trip], wants: dict[str, object]
) -> None:
    handled = {kind for context in ALL_CONTEXTS for kind in context.handlers}
    trip = new_trip(**wants)
    commands: list[Command | None] = []
    for step in STEPS:
        commands += [step.action(trip), step.compensation and step.compensation(trip)]
    assert {command.kind for command in commands if command is not None} <= handled


def test_some_context_publishes_every_outcome() -> None:
    published = {
        message.kind
        for context in ALL_CONTEXTS
        for handler in context.handlers.values()
        for message in handler.emits
    }
    awaited = {kind for step in BOOK_TRIP for kind in step.awaits if not kind.startswith("saga.")}
    assert awaited <= published
