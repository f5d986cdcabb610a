"""Seating: says who sits where.  It knows of reservations from events alone, and no saga at all."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    bindparam,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import postgresql

from examples.travel.contexts.schema import SCHEMA
from examples.travel.day import Day
from examples.travel.messages import (
    FlightReleased,
    FlightReserved,
    SeatingAssigned,
    SeatingFreed,
    TripDisrupted,
)
from internals import Context, Work

metadata = MetaData(schema=SCHEMA)

#: One row is a reservation that was heard of, and stays when it is given up.
bookings = Table(
    "seating_bookings",
    metadata,
    Column("reservation", BigInteger, primary_key=True, autoincrement=False),
    Column("trip_id", Uuid, nullable=False, index=True),
    Column("flight", Text, nullable=False),
    Column("released", Boolean, nullable=False, server_default="false"),
    #: Nobody boards on it, since its flight does not leave.
    Column("on_hold", Boolean, nullable=False, server_default="false"),
)

#: One row is one seat in a cabin.
seats = Table(
    "seating_seats",
    metadata,
    Column("flight", Text, primary_key=True),
    Column("position", Integer, CheckConstraint("position > 0"), primary_key=True),
    Column("label", Text, nullable=False),
    Column("reservation", ForeignKey(bookings.c.reservation), index=True),
    UniqueConstraint("flight", "label"),
)
Index(
    "seating_seats_free",
    seats.c.flight,
    seats.c.position,
    postgresql_where=seats.c.reservation.is_(None),
)

seating = Context("seating")

#: Letters of a row, from window to window.
_LETTERS = "ABCDEF"

_booked = (
    postgresql.insert(bookings)
    .values(
        reservation=bindparam("under"),
        trip_id=bindparam("for_trip"),
        flight=bindparam("on_flight"),
    )
    .on_conflict_do_nothing()
    .returning(bookings.c.reservation, bookings.c.flight)
    .cte("booked")
)
_free = (
    select(seats.c.flight, seats.c.position)
    .where(seats.c.flight == bindparam("on_flight"), seats.c.reservation.is_(None))
    .order_by(seats.c.position)
    .limit(bindparam("wanted"))
    .with_for_update(skip_locked=True)
    .cte("free")
)
#: Seats next to each other as far as there are any, in one statement.
_ASSIGN = (
    update(seats)
    .where(
        _booked.c.flight == _free.c.flight,
        seats.c.flight == _free.c.flight,
        seats.c.position == _free.c.position,
    )
    .values(reservation=_booked.c.reservation)
    .returning(seats.c.position, seats.c.label)
)
_released = postgresql.insert(bookings).values(
    reservation=bindparam("under"),
    trip_id=bindparam("for_trip"),
    flight=bindparam("on_flight"),
    released=True,
)
_RELEASE = _released.on_conflict_do_update(
    index_elements=[bookings.c.reservation], set_={"released": True}
)
_STAND_UP = update(seats).where(seats.c.reservation == bindparam("under")).values(reservation=None)
_RELEASED = select(bookings.c.released).where(bookings.c.reservation == bindparam("under"))


@seating.reacts_to(FlightReserved, emits=(SeatingAssigned,))
def assign(event: FlightReserved, work: Work) -> None:
    """Give each traveller a seat.

    Nothing happens when the release of the same reservation came first: events of two
    transactions may overtake each other.
    """
    assigned = work.connection.execute(
        _ASSIGN,
        {
            "under": event.reservation,
            "for_trip": event.trip_id,
            "on_flight": event.flight,
            "wanted": event.seats,
        },
    ).all()
    if not assigned and work.connection.scalar(_RELEASED, {"under": event.reservation}):
        return
    if len(assigned) != event.seats:
        raise RuntimeError(
            f"{event.flight} has {len(assigned)} free seats in its cabin and {event.seats} were "
            f"reserved under {event.reservation}: seating and flights disagree"
        )
    work.publish(
        SeatingAssigned(
            trip_id=event.trip_id,
            reservation=event.reservation,
            flight=event.flight,
            seats=tuple(seat.label for seat in sorted(assigned, key=lambda seat: seat.position)),
        )
    )


@seating.reacts_to(FlightReleased, emits=(SeatingFreed,))
def free(event: FlightReleased, work: Work) -> None:
    """Let nobody sit on the seats any more, nor later, should the reservation be heard of late."""
    work.connection.execute(
        _RELEASE,
        {"under": event.reservation, "for_trip": event.trip_id, "on_flight": event.flight},
    )
    work.connection.execute(_STAND_UP, {"under": event.reservation})
    work.publish(SeatingFreed(trip_id=event.trip_id, reservation=event.reservation))


def _hold(event: TripDisrupted, work: Work, *, on_hold: bool) -> None:
    work.connection.execute(
        update(bookings)
        .where(
            bookings.c.trip_id == event.trip_id,
            bookings.c.flight == event.flight,
            ~bookings.c.released,
        )
        .values(on_hold=on_hold)
    )


def let_board(event: TripDisrupted, work: Work) -> None:
    """They keep their seats after all."""
    _hold(event, work, on_hold=False)


@seating.reacts_to(TripDisrupted, undo=let_board)
def hold(event: TripDisrupted, work: Work) -> None:
    """Let nobody board, while another flight is looked for."""
    _hold(event, work, on_hold=True)


def stock(connection: Connection, day: Day) -> None:
    """Set up the cabin of each flight that leaves."""
    connection.execute(
        insert(seats),
        [
            {"flight": flight.number, "position": position, "label": _label(position)}
            for flight in day.flights
            if not flight.cancelled
            for position in range(1, flight.seats + 1)
        ],
    )


def _label(position: int) -> str:
    row, letter = divmod(position - 1, len(_LETTERS))
    return f"{row + 1}{_LETTERS[letter]}"
