"""Hotels: books rooms at the destination."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    select,
    update,
)

from examples.travel.contexts.schema import SCHEMA
from examples.travel.day import Day
from examples.travel.messages import (
    BookHotel,
    CancelHotel,
    HotelBooked,
    HotelUnavailable,
    TripDisrupted,
)
from internals import Context, Work

#: Rooms at a destination for each seat that arrives there; one at least.
ROOMS_PER_SEAT = 0.04

metadata = MetaData(schema=SCHEMA)

#: One row is one room, and who has it.
rooms = Table(
    "hotels_rooms",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("room", Text, primary_key=True),
    Column("trip_id", Uuid, index=True),
    Column("nights", Integer, CheckConstraint("nights > 0")),
    CheckConstraint("(trip_id IS NULL) = (nights IS NULL)"),
)
Index(
    "hotels_rooms_free",
    rooms.c.destination,
    rooms.c.room,
    postgresql_where=rooms.c.trip_id.is_(None),
)

hotels = Context("hotels")

_CHANGE_STAY = (
    update(rooms)
    .where(rooms.c.trip_id == bindparam("of_trip"))
    .values(nights=rooms.c.nights + bindparam("by"))
)

_free = (
    select(rooms.c.destination, rooms.c.room)
    .where(rooms.c.destination == bindparam("at"), rooms.c.trip_id.is_(None))
    .order_by(rooms.c.room)
    .limit(bindparam("wanted"))
    .with_for_update(skip_locked=True)
    .cte("free")
)
#: All the rooms or none of them, in one statement.
_BOOK = (
    update(rooms)
    .where(
        rooms.c.destination == _free.c.destination,
        rooms.c.room == _free.c.room,
        select(func.count()).select_from(_free).scalar_subquery() == bindparam("wanted"),
    )
    .values(trip_id=bindparam("for_trip"), nights=bindparam("for_nights"))
    .returning(rooms.c.room)
)
_GIVE_BACK = (
    update(rooms).where(rooms.c.trip_id == bindparam("of_trip")).values(trip_id=None, nights=None)
)


@hotels.handles(BookHotel, emits=(HotelBooked, HotelUnavailable))
def book(command: BookHotel, work: Work) -> None:
    """Book the rooms, or say that there are not so many."""
    booked = work.connection.scalars(
        _BOOK,
        {
            "at": command.destination,
            "wanted": command.rooms,
            "for_trip": command.trip_id,
            "for_nights": command.nights,
        },
    ).all()
    if not booked:
        work.publish(HotelUnavailable(trip_id=command.trip_id, destination=command.destination))
        return
    work.publish(
        HotelBooked(
            trip_id=command.trip_id,
            destination=command.destination,
            rooms=tuple(sorted(booked)),
        )
    )


@hotels.handles(CancelHotel)
def cancel(command: CancelHotel, work: Work) -> None:
    """Give the rooms back."""
    work.connection.execute(_GIVE_BACK, {"of_trip": command.trip_id})


def shorten(event: TripDisrupted, work: Work) -> None:
    """Back to the nights that were booked."""
    work.connection.execute(_CHANGE_STAY, {"of_trip": event.trip_id, "by": -1})


@hotels.reacts_to(TripDisrupted, undo=shorten)
def prolong(event: TripDisrupted, work: Work) -> None:
    """Keep the rooms for a night more, since the travellers come late."""
    work.connection.execute(_CHANGE_STAY, {"of_trip": event.trip_id, "by": 1})


def stock(connection: Connection, day: Day) -> None:
    """Build rooms wherever a flight arrives, in proportion to its seats."""
    connection.execute(
        insert(rooms),
        [
            {"destination": destination, "room": f"{destination}-{number:04}"}
            for destination, seats in day.seats_arriving().items()
            for number in range(1, max(1, int(seats * ROOMS_PER_SEAT)) + 1)
        ],
    )
