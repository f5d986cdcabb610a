"""A trip that is booked, of which the stories are told."""

from pydantic import BaseModel

from saga import Command, Event, Parallel, Saga, Step
from saga.testing import given


class ReserveFlight(Command, kind="flights.reserve"):
    """The first command."""

    trip: str
    seats: int = 2


class SeatingAssigned(Event, kind="seating.assigned"):
    """Its outcome, from another context."""

    seats: tuple[str, ...]


class FlightUnavailable(Event, kind="flights.unavailable"):
    """Its refusal."""


class CancelFlight(Command, kind="flights.cancel"):
    """Its compensation."""

    trip: str


class BookHotel(Command, kind="hotels.book"):
    """In parallel with the next."""

    trip: str
    rooms: int


class Booked(Event, kind="bookings.booked"):
    """What hotel and car both wait for."""


class CancelHotel(Command, kind="hotels.cancel"):
    """Its compensation."""

    trip: str


class RentCar(Command, kind="cars.rent"):
    """In parallel with the one before."""

    trip: str
    extras: tuple[str, ...] = ()


class CancelCar(Command, kind="cars.cancel"):
    """Its compensation."""

    trip: str


class ChargeCard(Command, kind="payments.charge"):
    """The point of no return."""

    trip: str


class IssueTickets(Command, kind="tickets.issue"):
    """One ticket for each seat."""

    seats: tuple[str, ...]


class Trip(BaseModel):
    """The data."""

    name: str = "T1"
    seats: tuple[str, ...] = ()
    price: float = 0.0


BOOK_TRIP = Saga(
    name="book_trip",
    data=Trip,
    steps=(
        Step(
            "flight",
            lambda trip: ReserveFlight(trip=trip.name),
            until=SeatingAssigned,
            rejected_by=FlightUnavailable,
            on_success=lambda trip, event: trip.model_copy(update={"seats": event.seats}),
            compensation=lambda trip: CancelFlight(trip=trip.name),
        ),
        Parallel(
            Step(
                "hotel",
                lambda trip: BookHotel(trip=trip.name, rooms=1),
                until=Booked,
                compensation=lambda trip: CancelHotel(trip=trip.name),
            ),
            Step(
                "car",
                lambda trip: RentCar(trip=trip.name),
                compensation=lambda trip: CancelCar(trip=trip.name),
            ),
        ),
        Step("payment", lambda trip: ChargeCard(trip=trip.name), pivot=True),
        Step("tickets", lambda trip: IssueTickets(seats=trip.seats)),
    ),
)


SEATED = SeatingAssigned(seats=("1A", "1B"))


BEGUN = given(BOOK_TRIP, Trip())


FLOWN = BEGUN.when(SEATED)
