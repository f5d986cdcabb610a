"""Found: what stands in the tables of all contexts.

The one place that reads across contexts; the contexts themselves never do.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Executable, func, or_, select

from examples.travel.contexts.cars import fleet
from examples.travel.contexts.documents import tickets
from examples.travel.contexts.flights import departures, reservations
from examples.travel.contexts.flights import seats as flight_seats
from examples.travel.contexts.hotels import rooms
from examples.travel.contexts.loyalty import earned
from examples.travel.contexts.payments import ledger
from examples.travel.contexts.seating import bookings
from examples.travel.contexts.seating import seats as cabin_seats

#: What a context has of each trip: some facts of each row, in order.
ByTrip = Mapping[UUID, tuple[tuple[Any, ...], ...]]


@dataclass(frozen=True, slots=True)
class Found:
    """Everything that stands; what was given back is not there."""

    #: Flight to the seats of its aircraft.
    capacity: Mapping[str, int]
    #: Flights that never left.
    cancelled: frozenset[str]
    #: Flight to seats that it sold ...
    sold: Mapping[str, int]
    #: ... that standing reservations ask for ...
    reserved: Mapping[str, int]
    #: ... and that somebody sits on, says seating.
    occupied: Mapping[str, int]

    #: Flight, seats asked for and seats sold of each standing reservation.
    flights: ByTrip
    #: Flight and label of each seat.
    seating: ByTrip
    #: Destination of each room.
    hotels: ByTrip
    #: Destination of each car.
    cars: ByTrip
    #: Account and cents of each line of the ledger.
    payments: ByTrip
    #: Traveller and miles of each credit.
    loyalty: ByTrip
    #: Flight and seat of each ticket.
    documents: ByTrip

    @property
    def by_context(self) -> Mapping[str, ByTrip]:
        """What each context has, by the context's name."""
        return {
            "flights": self.flights,
            "seating": self.seating,
            "hotels": self.hotels,
            "cars": self.cars,
            "payments": self.payments,
            "loyalty": self.loyalty,
            "documents": self.documents,
        }


def read_found(connection: Connection) -> Found:
    """Read the tables of all contexts."""
    plan = connection.execute(
        select(departures.c.flight, departures.c.seats, departures.c.cancelled)
    ).all()
    standing = ~reservations.c.released
    sold_to = (
        select(func.count())
        .where(flight_seats.c.reservation == reservations.c.number)
        .scalar_subquery()
    )

    def by_trip(statement: Executable) -> ByTrip:
        found: defaultdict[UUID, list[tuple[Any, ...]]] = defaultdict(list)
        for trip_id, *facts in connection.execute(statement):
            found[trip_id].append(tuple(facts))
        return {trip_id: tuple(sorted(rows)) for trip_id, rows in found.items()}

    def by_flight(statement: Executable) -> Mapping[str, int]:
        return {row[0]: row[1] for row in connection.execute(statement)}

    return Found(
        capacity={row.flight: row.seats for row in plan},
        cancelled=frozenset(row.flight for row in plan if row.cancelled),
        sold=by_flight(
            select(flight_seats.c.flight, func.count())
            .where(flight_seats.c.reservation.is_not(None))
            .group_by(flight_seats.c.flight)
        ),
        reserved=by_flight(
            select(reservations.c.flight, func.sum(reservations.c.seats))
            .where(standing)
            .group_by(reservations.c.flight)
        ),
        occupied=by_flight(
            select(cabin_seats.c.flight, func.count())
            .where(cabin_seats.c.reservation.is_not(None))
            .group_by(cabin_seats.c.flight)
        ),
        flights=by_trip(
            select(
                reservations.c.trip_id, reservations.c.flight, reservations.c.seats, sold_to
            ).where(standing)
        ),
        # A booking that stands without a seat counts, and so does a seat of a released one.
        seating=by_trip(
            select(
                bookings.c.trip_id,
                bookings.c.flight,
                func.coalesce(cabin_seats.c.label, ""),
            )
            .outerjoin_from(bookings, cabin_seats)
            .where(or_(~bookings.c.released, cabin_seats.c.label.is_not(None)))
        ),
        hotels=by_trip(
            select(rooms.c.trip_id, rooms.c.destination).where(rooms.c.trip_id.is_not(None))
        ),
        cars=by_trip(
            select(fleet.c.trip_id, fleet.c.destination).where(fleet.c.trip_id.is_not(None))
        ),
        payments=by_trip(select(ledger.c.trip_id, ledger.c.account, ledger.c.amount_cents)),
        loyalty=by_trip(select(earned.c.trip_id, earned.c.traveller, earned.c.miles)),
        documents=by_trip(select(tickets.c.trip_id, tickets.c.flight, tickets.c.seat)),
    )
