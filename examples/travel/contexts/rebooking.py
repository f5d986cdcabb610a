"""Rebooking: what `flights` does when a flight is cancelled that has been sold."""

from sqlalchemy import (
    Column,
    ForeignKey,
    Table,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from examples.travel.contexts.flights import (
    RELEASE,
    RESERVE,
    departures,
    flights,
    metadata,
    seats,
)
from examples.travel.messages import (
    Disrupt,
    FlightCancelled,
    FlightReleased,
    FlightReserved,
    Rebook,
    TripDisrupted,
)
from internals import Work
from saga import Rejected

__all__ = ["disruptions", "flights"]

#: One row is a trip whose travellers are looked after, since this flight of theirs was cancelled.
disruptions = Table(
    "flights_disruptions",
    metadata,
    Column("trip_id", Uuid, primary_key=True),
    Column("flight", ForeignKey(departures.c.flight), primary_key=True),
)

_old = departures.alias("old")
#: Flights to the same place that leave later and have so many seats free, the next one first.
_LATER = (
    select(departures.c.flight)
    .join(_old, _old.c.destination == departures.c.destination)
    .join(seats, seats.c.flight == departures.c.flight)
    .where(
        _old.c.flight == bindparam("instead_of", type_=Text),
        departures.c.departs > _old.c.departs,
        ~departures.c.cancelled_late,
        seats.c.reservation.is_(None),
    )
    .group_by(departures.c.flight, departures.c.departs)
    .having(func.count() >= bindparam("wanted"))
    .order_by(departures.c.departs, departures.c.flight)
)


@flights.reacts_to(FlightCancelled, ordered_by="flight")
def call_off(event: FlightCancelled, work: Work) -> None:
    """Sell no more seats on it, and rebook nobody to it."""
    work.connection.execute(
        update(departures).where(departures.c.flight == event.flight).values(cancelled_late=True)
    )


def forget(command: Disrupt, work: Work) -> None:
    """The trip stays as it was booked."""
    work.connection.execute(
        delete(disruptions).where(
            disruptions.c.trip_id == command.trip_id, disruptions.c.flight == command.flight
        )
    )


@flights.handles(Disrupt, emits=(TripDisrupted,), undo=forget)
def disrupt(command: Disrupt, work: Work) -> None:
    """Take note, and tell whoever wants to know."""
    work.connection.execute(
        insert(disruptions).values(trip_id=command.trip_id, flight=command.flight)
    )
    work.publish(
        TripDisrupted(trip_id=command.trip_id, traveller=command.traveller, flight=command.flight)
    )


@flights.handles(Rebook, emits=(FlightReleased, FlightReserved))
def rebook(command: Rebook, work: Work) -> None:
    """Give up the reservation for one on the next flight that has seats."""
    wanted = {"instead_of": command.flight, "wanted": command.seats}
    later = work.connection.scalars(_LATER, wanted).all()
    released = work.connection.execute(RELEASE, {"of_trip": command.trip_id}).one()
    for flight in later:
        order = {"for_trip": command.trip_id, "on_flight": flight, "wanted": command.seats}
        number = work.connection.scalars(RESERVE, order).first()
        if number is None:
            continue  # others were faster
        work.publish(
            FlightReleased(
                trip_id=command.trip_id, reservation=released.number, flight=released.flight
            )
        )
        work.publish(
            FlightReserved(
                trip_id=command.trip_id, reservation=number, flight=flight, seats=command.seats
            )
        )
        return
    raise Rejected("no later flight has seats")
