"""Flights: sells the seats of the day's departures.

Here is where most failures come from: a flight that was cancelled has no seats to sell, and one
that is full has none left.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    exists,
    func,
    insert,
    select,
    update,
)

from examples.travel.contexts.schema import SCHEMA
from examples.travel.day import Day
from examples.travel.messages import (
    CancelFlight,
    FlightReleased,
    FlightReserved,
    FlightUnavailable,
    ReserveFlight,
    SeatingFreed,
)
from internals import Context, Work

metadata = MetaData(schema=SCHEMA)

departures = Table(
    "flights_departures",
    metadata,
    Column("flight", Text, primary_key=True),
    Column("destination", Text, nullable=False, index=True),
    Column("departs", DateTime, nullable=False),
    Column("seats", Integer, CheckConstraint("seats > 0"), nullable=False),
    Column("cancelled", Boolean, nullable=False),
    #: After seats were sold.
    Column("cancelled_late", Boolean, nullable=False, server_default="false"),
)

reservations = Table(
    "flights_reservations",
    metadata,
    Column("number", BigInteger, Identity(), primary_key=True),
    Column("trip_id", Uuid, nullable=False),
    Column("flight", ForeignKey(departures.c.flight), nullable=False),
    Column("seats", Integer, CheckConstraint("seats > 0"), nullable=False),
    Column("released", Boolean, nullable=False, server_default="false"),
)
# A trip has at most one that stands.
Index(
    "flights_reservations_standing",
    reservations.c.trip_id,
    unique=True,
    postgresql_where=~reservations.c.released,
)

#: One row is one seat that can be sold.
seats = Table(
    "flights_seats",
    metadata,
    Column("flight", ForeignKey(departures.c.flight), primary_key=True),
    Column("position", Integer, primary_key=True),
    Column("reservation", ForeignKey(reservations.c.number), index=True),
)
Index(
    "flights_seats_free",
    seats.c.flight,
    seats.c.position,
    postgresql_where=seats.c.reservation.is_(None),
)

flights = Context("flights")

_free = (
    select(seats.c.flight, seats.c.position)
    .where(
        seats.c.flight == bindparam("on_flight"),
        seats.c.reservation.is_(None),
        exists().where(departures.c.flight == bindparam("on_flight"), ~departures.c.cancelled_late),
    )
    .order_by(seats.c.position)
    .limit(bindparam("wanted"))
    .with_for_update(skip_locked=True)
    .cte("free")
)
_made = (
    insert(reservations)
    .from_select(
        ["trip_id", "flight", "seats"],
        select(
            bindparam("for_trip", type_=Uuid),
            bindparam("on_flight", type_=Text),
            bindparam("wanted", type_=Integer),
        ).where(select(func.count()).select_from(_free).scalar_subquery() == bindparam("wanted")),
    )
    .returning(reservations.c.number, reservations.c.flight)
    .cte("made")
)
#: All the seats or none of them, and the reservation, in one statement.
RESERVE = (
    update(seats)
    .where(
        _made.c.flight == _free.c.flight,
        seats.c.flight == _free.c.flight,
        seats.c.position == _free.c.position,
    )
    .values(reservation=_made.c.number)
    .returning(seats.c.reservation)
)
RELEASE = (
    update(reservations)
    .where(reservations.c.trip_id == bindparam("of_trip"), ~reservations.c.released)
    .values(released=True)
    .returning(reservations.c.number, reservations.c.flight)
)
_PUT_ON_SALE = (
    update(seats).where(seats.c.reservation == bindparam("of_reservation")).values(reservation=None)
)


@flights.handles(ReserveFlight, emits=(FlightReserved, FlightUnavailable))
def reserve(command: ReserveFlight, work: Work) -> None:
    """Sell seats, or say why not."""
    number = work.connection.scalars(
        RESERVE,
        {
            "for_trip": command.trip_id,
            "on_flight": command.flight,
            "wanted": command.seats,
        },
    ).first()
    if number is None:
        cancelled = work.connection.scalar(
            select(departures.c.cancelled | departures.c.cancelled_late).where(
                departures.c.flight == command.flight
            )
        )
        work.publish(
            FlightUnavailable(
                trip_id=command.trip_id,
                flight=command.flight,
                reason="unknown" if cancelled is None else "cancelled" if cancelled else "full",
            )
        )
        return
    work.publish(
        FlightReserved(
            trip_id=command.trip_id,
            reservation=number,
            flight=command.flight,
            seats=command.seats,
        )
    )


@flights.handles(CancelFlight, emits=(FlightReleased,))
def cancel(command: CancelFlight, work: Work) -> None:
    """Give up the reservation.

    Its seats are not on sale yet: somebody still sits on them, and whoever bought them now would
    find them occupied.
    """
    released = work.connection.execute(RELEASE, {"of_trip": command.trip_id}).one_or_none()
    if released is not None:
        work.publish(
            FlightReleased(
                trip_id=command.trip_id, reservation=released.number, flight=released.flight
            )
        )


@flights.reacts_to(SeatingFreed)
def put_on_sale(event: SeatingFreed, work: Work) -> None:
    """Sell the seats again, now that nobody sits on them."""
    work.connection.execute(_PUT_ON_SALE, {"of_reservation": event.reservation})


def stock(connection: Connection, day: Day) -> None:
    """Enter the day's departures, and a seat for each of those that leave."""
    connection.execute(
        insert(departures),
        [
            {
                "flight": flight.number,
                "destination": flight.destination,
                "departs": flight.departs,
                "seats": flight.seats,
                "cancelled": flight.cancelled,
            }
            for flight in day.flights
        ],
    )
    connection.execute(
        insert(seats).from_select(
            ["flight", "position"],
            select(departures.c.flight, func.generate_series(1, departures.c.seats)).where(
                ~departures.c.cancelled
            ),
        )
    )
