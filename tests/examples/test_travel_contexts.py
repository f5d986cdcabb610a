"""The contexts at work, on real tables: each effect, each refusal, and everything given back."""

from collections.abc import Callable
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlalchemy import Connection, Table, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from examples.travel.contexts import cars, create_tables, drop_tables, flights, hotels, payments
from examples.travel.contexts import seating as cabins
from examples.travel.contexts.documents import tickets
from examples.travel.contexts.loyalty import earned
from examples.travel.day import Day
from examples.travel.messages import (
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
    ChargeCard,
    FlightCancelled,
    FlightReleased,
    FlightReserved,
    FlightUnavailable,
    HotelUnavailable,
    PaymentDeclined,
    RentCar,
    ReserveFlight,
    SeatingAssigned,
    SeatingFreed,
    TripDisrupted,
)
from examples.travel.payment_cards import REFUSED_CARDS
from examples.travel.trips import Trip
from internals.handler import Handler
from saga import Event, Rejected

Book = Callable[[Trip], tuple[str, Trip]]
NewTrip = Callable[..., Trip]
Tell = Callable[..., list[Event]]

TRIP = UUID(int=99)
SMALL, LARGE, CANCELLED = "AA1-JFK-LAX-0800", "AA2-JFK-BOS-0900", "AA3-JFK-LAX-1000"


def count(connection: Connection, table: Table, taken: str) -> int:
    """Return how many rows of a table somebody has."""
    statement = select(func.count()).select_from(table).where(table.c[taken].is_not(None))
    return connection.scalar(statement) or 0


def reserve(trip: Trip) -> ReserveFlight:
    return ReserveFlight(trip_id=trip.trip_id, flight=trip.flight, seats=trip.travellers)


def test_a_completed_trip_has_everything(
    connection: Connection, book: Book, new_trip: NewTrip
) -> None:
    status, trip = book(new_trip(travellers=3))
    assert status == "completed"
    assert trip.seats == ("1A", "1B", "1C")
    assert trip.rooms == ("BOS-0001", "BOS-0002")
    assert len(set(trip.tickets)) == 3
    assert count(connection, flights.seats, "reservation") == 3
    assert count(connection, cabins.seats, "reservation") == 3
    assert count(connection, hotels.rooms, "trip_id") == 2
    assert count(connection, cars.fleet, "trip_id") == 1
    assert connection.execute(select(earned.c.traveller, earned.c.miles)).all() == [
        (trip.traveller, 700)
    ]
    assert connection.scalars(select(tickets.c.seat).order_by(tickets.c.number)).all() == [
        *trip.seats
    ]
    lines = connection.execute(select(payments.ledger.c.account, payments.ledger.c.amount_cents))
    assert dict(lines.all()) == {trip.traveller: -70_050, "agency": 70_050}


def test_who_wants_neither_hotel_nor_car_gets_none(
    connection: Connection, book: Book, new_trip: NewTrip
) -> None:
    assert book(new_trip(nights=0, wants_car=False))[0] == "completed"
    assert count(connection, hotels.rooms, "trip_id") == 0
    assert count(connection, cars.fleet, "trip_id") == 0


def test_a_declined_card_undoes_everything(
    connection: Connection, book: Book, new_trip: NewTrip
) -> None:
    assert book(new_trip(card=next(iter(REFUSED_CARDS))))[0] == "compensated"
    assert count(connection, flights.seats, "reservation") == 0
    assert count(connection, cabins.seats, "reservation") == 0
    assert count(connection, hotels.rooms, "trip_id") == 0
    assert count(connection, cars.fleet, "trip_id") == 0
    assert count(connection, payments.ledger, "trip_id") == 0
    assert count(connection, earned, "trip_id") == 0


@pytest.mark.parametrize(
    ("flight", "reason"),
    [(CANCELLED, "cancelled"), ("AA9-JFK-LAX-0800", "unknown"), (SMALL, "full")],
)
def test_a_flight_says_why_it_cannot_be_had(
    tell: Tell, new_trip: NewTrip, flight: str, reason: str
) -> None:
    trip = new_trip(flight=flight, travellers=4)
    (event,) = tell(reserve(trip), flights.flights)
    assert isinstance(event, FlightUnavailable)
    assert (event.trip_id, event.flight, event.reason) == (trip.trip_id, flight, reason)


def test_a_flight_sells_all_its_seats_and_no_more(
    connection: Connection, tell: Tell, new_trip: NewTrip
) -> None:
    two, too_many, last = (
        new_trip(number, flight=SMALL, travellers=travellers)
        for number, travellers in ((1, 2), (2, 2), (3, 1))
    )
    kinds = [
        [type(event) for event in tell(reserve(trip), flights.flights)]
        for trip in (two, too_many, last)
    ]
    assert kinds == [
        [FlightReserved, SeatingAssigned],
        [FlightUnavailable],
        [FlightReserved, SeatingAssigned],
    ]
    assert count(connection, flights.seats, "reservation") == 3


def test_seats_are_sold_again_once_nobody_sits_there(
    connection: Connection, tell: Tell, new_trip: NewTrip
) -> None:
    trip, other = new_trip(1, flight=SMALL), new_trip(2, flight=SMALL)
    tell(reserve(trip), flights.flights)
    cancelled = tell(CancelFlight(trip_id=trip.trip_id), flights.flights)
    assert [type(event) for event in cancelled] == [FlightReleased, SeatingFreed]
    *_, assigned = tell(reserve(other), flights.flights)
    assert isinstance(assigned, SeatingAssigned)
    assert assigned.seats == ("1A", "1B")


def test_seats_stay_sold_while_somebody_sits_there(connection: Connection, tell: Tell) -> None:
    reservation = FlightReserved(trip_id=TRIP, reservation=1, flight=SMALL, seats=3)
    tell(reservation, cabins.seating)
    with pytest.raises(RuntimeError, match="0 free seats"):
        tell(reservation.model_copy(update={"reservation": 2}), cabins.seating)


def test_a_release_that_overtakes_its_reservation_leaves_nobody_sitting(
    connection: Connection, tell: Tell
) -> None:
    released = FlightReleased(trip_id=TRIP, reservation=1, flight=SMALL)
    assert [type(event) for event in tell(released, cabins.seating)] == [SeatingFreed]
    late = FlightReserved(trip_id=TRIP, reservation=1, flight=SMALL, seats=3)
    assert tell(late, cabins.seating) == []
    assert count(connection, cabins.seats, "reservation") == 0


def test_a_flight_that_is_cancelled_sells_no_more_seats(
    tell: Tell, new_trip: NewTrip, book: Book
) -> None:
    assert book(new_trip(1))[0] == "completed"
    tell(FlightCancelled(flight=LARGE), flights.flights)
    [refused] = tell(reserve(new_trip(2)), flights.flights)
    assert isinstance(refused, FlightUnavailable)
    assert refused.reason == "cancelled"


def test_nobody_boards_while_another_flight_is_looked_for(
    connection: Connection, tell: Tell, new_trip: NewTrip, book: Book
) -> None:
    trips = [new_trip(1), new_trip(2)]
    for trip in trips:
        book(trip)
    event = TripDisrupted(trip_id=trips[0].trip_id, traveller="T", flight=LARGE)
    held = select(cabins.bookings.c.trip_id).where(cabins.bookings.c.on_hold)
    tell(event, cabins.seating)
    assert connection.scalars(held).all() == [trips[0].trip_id]
    undo = cabins.seating.undos[event.kind]
    assert isinstance(undo, Handler)
    undo.function(event, SimpleNamespace(connection=connection))
    assert connection.scalars(held).all() == []


def test_a_cancellation_of_nothing_does_nothing(tell: Tell) -> None:
    assert tell(CancelFlight(trip_id=TRIP), flights.flights) == []
    assert tell(CancelHotel(trip_id=TRIP), hotels.hotels) == []
    assert tell(CancelCar(trip_id=TRIP), cars.cars) == []


def test_a_trip_has_one_reservation_at_a_time(tell: Tell, new_trip: NewTrip) -> None:
    tell(reserve(new_trip()), flights.flights)
    with pytest.raises(IntegrityError):
        tell(reserve(new_trip()), flights.flights)


def test_a_hotel_gives_all_rooms_or_none(connection: Connection, tell: Tell) -> None:
    free = connection.scalar(
        select(func.count()).select_from(hotels.rooms).where(hotels.rooms.c.destination == "BOS")
    )
    assert free == 2
    (event,) = tell(BookHotel(trip_id=TRIP, destination="BOS", rooms=3, nights=1), hotels.hotels)
    assert event == HotelUnavailable(trip_id=TRIP, destination="BOS")
    assert count(connection, hotels.rooms, "trip_id") == 0


def test_the_last_car_is_rented_once(tell: Tell, new_trip: NewTrip) -> None:
    one, other = new_trip(1), new_trip(2)
    tell(RentCar(trip_id=one.trip_id, destination="LAX", days=1), cars.cars)
    with pytest.raises(Rejected, match="no car is left at LAX"):
        tell(RentCar(trip_id=other.trip_id, destination="LAX", days=1), cars.cars)


def test_a_declined_charge_leaves_the_books_alone(connection: Connection, tell: Tell) -> None:
    card, reason = next(iter(REFUSED_CARDS.items()))
    charge = ChargeCard(trip_id=TRIP, traveller="T", card=card, amount_cents=5)
    assert tell(charge, payments.payments) == [PaymentDeclined(trip_id=TRIP, reason=reason)]
    assert count(connection, payments.ledger, "trip_id") == 0


def test_a_trip_is_paid_once(tell: Tell, new_trip: NewTrip) -> None:
    charge = ChargeCard(trip_id=TRIP, traveller="T", card=new_trip().card, amount_cents=5)
    tell(charge, payments.payments)
    with pytest.raises(IntegrityError):
        tell(charge, payments.payments)


@pytest.mark.parametrize("account", ["agency", "T"])
def test_money_only_goes_from_travellers_to_the_agency(
    connection: Connection, account: str
) -> None:
    wrong_way = -5 if account == "agency" else 5
    with pytest.raises(IntegrityError):
        connection.execute(
            insert(payments.ledger).values(
                trip_id=TRIP, account=account, amount_cents=wrong_way, card="…4242"
            )
        )


def test_no_two_seats_of_a_flight_are_called_the_same(connection: Connection) -> None:
    with pytest.raises(IntegrityError):
        connection.execute(
            update(cabins.seats)
            .where(cabins.seats.c.flight == SMALL, cabins.seats.c.position == 2)
            .values(label="1A")
        )


def test_tables_can_be_dropped_and_made_again(connection: Connection, small_day: Day) -> None:
    drop_tables(connection)
    drop_tables(connection)
    create_tables(connection, small_day)
    assert connection.scalar(select(func.count()).select_from(flights.departures)) == 3


def test_nothing_is_for_sale_on_a_cancelled_flight(connection: Connection) -> None:
    for_sale = set(connection.scalars(select(flights.seats.c.flight)))
    assert for_sale == {SMALL, LARGE}
