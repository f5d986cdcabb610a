"""The checks: silent when all is well, and each fault that is planted makes its check fail."""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import pytest
from sqlalchemy import Connection, Update, delete, insert, select, update
from sqlalchemy.sql.base import Executable

from examples.travel.checks import check
from examples.travel.contexts import cars, documents, flights, hotels, loyalty, payments, seating
from examples.travel.payment_cards import REFUSED_CARDS
from examples.travel.trips import Trip

SMALL, LARGE, CANCELLED = "AA1-JFK-LAX-0800", "AA2-JFK-BOS-0900", "AA3-JFK-LAX-1000"
COMPLETED, COMPENSATED, STRANGER = UUID(int=1), UUID(int=2), UUID(int=99)


@dataclass
class Booked:
    """Two trips, one completed and one compensated."""

    connection: Connection
    trips: list[Trip]
    statuses: dict[str, str]

    def failed(self) -> dict[str, str]:
        """Return the checks that fail, and what they say."""
        checks = check(self.connection, self.trips, self.statuses)
        return {one.name: one.detail for one in checks if not one.ok}


@pytest.fixture
def booked(
    connection: Connection,
    book: Callable[[Trip], tuple[str, Trip]],
    new_trip: Callable[..., Trip],
) -> Booked:
    """A completed and a compensated trip."""
    trips = [
        new_trip(1, wants_car=False),
        new_trip(2, flight=SMALL, card=next(iter(REFUSED_CARDS)), amount_cents=30_000),
    ]
    statuses = {trip.reference: book(trip)[0] for trip in trips}
    assert statuses == {"TRIP-1": "completed", "TRIP-2": "compensated"}
    return Booked(connection, trips, statuses)


def test_all_is_well(booked: Booked) -> None:
    assert booked.failed() == {}


def test_all_is_well_when_nobody_asked_for_anything(connection: Connection) -> None:
    assert all(one.ok for one in check(connection, [], {}))


@pytest.mark.parametrize("status", ["running", "stuck", "compensating"])
def test_a_trip_that_is_not_over(booked: Booked, status: str) -> None:
    booked.statuses["TRIP-2"] = status
    assert booked.failed() == {"every_trip_is_over": f"TRIP-2 is {status}"}


def test_a_trip_that_was_forgotten(booked: Booked) -> None:
    del booked.statuses["TRIP-2"]
    assert booked.failed() == {"every_trip_is_over": "TRIP-2 is unknown"}


def test_the_frameworks_word_is_not_taken(booked: Booked) -> None:
    booked.statuses = {"TRIP-1": "compensated", "TRIP-2": "completed"}
    assert booked.failed().keys() == {
        "rooms_conserved",
        "cars_conserved",
        "money_conserved",
        "compensated_trips_left_nothing",
        "completed_trips_have_exactly_one_of_each",
    }


_of = flights.reservations.c
_reservation = select(_of.number).where(_of.trip_id == COMPLETED).scalar_subquery()
_released = select(_of.number).where(_of.trip_id == COMPENSATED).scalar_subquery()


def _take_seat(module: object, flight: str, position: int, under: object) -> Update:
    seats = module.seats  # type: ignore[attr-defined]
    return (
        update(seats)
        .where(seats.c.flight == flight, seats.c.position == position)
        .values(reservation=under)
    )


@pytest.mark.parametrize(
    ("fault", "noticed"),
    [
        pytest.param(
            _take_seat(flights, LARGE, 3, _reservation),
            {"seats_conserved", "completed_trips_have_exactly_one_of_each"},
            id="a seat sold that nobody reserved",
        ),
        pytest.param(
            _take_seat(flights, SMALL, 1, _released),
            {"seats_conserved"},
            id="a released seat that is not on sale",
        ),
        pytest.param(
            _take_seat(seating, SMALL, 1, _released),
            {"seats_conserved", "compensated_trips_left_nothing"},
            id="somebody sits on a released seat",
        ),
        pytest.param(
            _take_seat(seating, LARGE, 1, None),
            {"seats_conserved", "completed_trips_have_exactly_one_of_each"},
            id="a traveller who cannot sit",
        ),
        pytest.param(
            insert(flights.reservations).values(trip_id=COMPENSATED, flight=CANCELLED, seats=1),
            {
                "seats_conserved",
                "no_seat_on_a_cancelled_flight",
                "compensated_trips_left_nothing",
            },
            id="a reservation on a cancelled flight",
        ),
        pytest.param(
            insert(flights.reservations).values(trip_id=STRANGER, flight=LARGE, seats=61),
            {"seats_conserved", "no_rows_of_unknown_trips"},
            id="more seats than the aircraft has, for a stranger",
        ),
        pytest.param(
            update(seating.bookings)
            .where(seating.bookings.c.trip_id == COMPENSATED)
            .values(released=False),
            {"compensated_trips_left_nothing"},
            id="a booking that was not released",
        ),
        pytest.param(
            update(hotels.rooms)
            .where(hotels.rooms.c.destination == "LAX")
            .values(trip_id=COMPENSATED, nights=1),
            {"rooms_conserved", "compensated_trips_left_nothing"},
            id="a room that was not given back",
        ),
        pytest.param(
            update(hotels.rooms)
            .where(hotels.rooms.c.trip_id == COMPLETED)
            .values(trip_id=None, nights=None),
            {"rooms_conserved", "completed_trips_have_exactly_one_of_each"},
            id="a room that was lost",
        ),
        pytest.param(
            update(cars.fleet)
            .where(cars.fleet.c.destination == "BOS")
            .values(trip_id=COMPLETED, days=1),
            {"cars_conserved", "completed_trips_have_exactly_one_of_each"},
            id="a car that nobody wanted",
        ),
        pytest.param(
            update(cars.fleet)
            .where(cars.fleet.c.destination == "LAX")
            .values(trip_id=STRANGER, days=1),
            {"cars_conserved", "no_rows_of_unknown_trips"},
            id="a car for a stranger",
        ),
        pytest.param(
            delete(payments.ledger).where(payments.ledger.c.account == payments.AGENCY),
            {"money_conserved", "completed_trips_have_exactly_one_of_each"},
            id="money that never arrived",
        ),
        pytest.param(
            delete(payments.ledger),
            {"money_conserved", "completed_trips_have_exactly_one_of_each"},
            id="a trip that nobody paid for",
        ),
        pytest.param(
            update(payments.ledger).values(amount_cents=payments.ledger.c.amount_cents * 2),
            {"money_conserved", "completed_trips_have_exactly_one_of_each"},
            id="a trip that was charged twice",
        ),
        pytest.param(
            update(payments.ledger).values(trip_id=COMPENSATED),
            {
                "compensated_trips_left_nothing",
                "completed_trips_have_exactly_one_of_each",
            },
            id="the wrong one paid",
        ),
        pytest.param(
            update(loyalty.earned).values(miles=loyalty.earned.c.miles * 2),
            {"completed_trips_have_exactly_one_of_each"},
            id="miles credited twice",
        ),
        pytest.param(
            insert(loyalty.earned).values(trip_id=COMPENSATED, traveller="T", miles=1),
            {"compensated_trips_left_nothing"},
            id="miles for nothing",
        ),
        pytest.param(
            delete(documents.tickets).where(documents.tickets.c.seat == "1A"),
            {"completed_trips_have_exactly_one_of_each"},
            id="a ticket that was lost",
        ),
        pytest.param(
            update(documents.tickets).where(documents.tickets.c.seat == "1A").values(seat="9F"),
            {"completed_trips_have_exactly_one_of_each"},
            id="a ticket for another seat",
        ),
    ],
)
def test_a_planted_fault_is_noticed(booked: Booked, fault: Executable, noticed: set[str]) -> None:
    booked.connection.execute(fault)
    failed = booked.failed()
    assert failed.keys() == noticed
    assert all(failed.values())


def test_a_long_list_of_problems_is_cut_short(
    connection: Connection, new_trip: Callable[..., Trip]
) -> None:
    checks = check(connection, [new_trip(number) for number in range(1, 8)], {})
    assert checks[0].detail == (
        "TRIP-1 is unknown; TRIP-2 is unknown; TRIP-3 is unknown; and 4 more"
    )
