"""Cars: rents cars at the destination, and says no the short way, by raising `Rejected`."""

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
    insert,
    select,
    update,
)

from examples.travel.contexts.schema import SCHEMA
from examples.travel.day import Day
from examples.travel.messages import CancelCar, RentCar, TripDisrupted
from internals import Context, Work
from saga import Rejected

#: Cars at a destination for each seat that arrives there; one at least.
CARS_PER_SEAT = 0.012

metadata = MetaData(schema=SCHEMA)

#: One row is one car, and who has it.
fleet = Table(
    "cars_fleet",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("plate", Text, primary_key=True),
    Column("trip_id", Uuid, unique=True),
    Column("days", Integer, CheckConstraint("days > 0")),
    CheckConstraint("(trip_id IS NULL) = (days IS NULL)"),
)
Index(
    "cars_fleet_free",
    fleet.c.destination,
    fleet.c.plate,
    postgresql_where=fleet.c.trip_id.is_(None),
)

cars = Context("cars")

_CHANGE_RENT = (
    update(fleet)
    .where(fleet.c.trip_id == bindparam("of_trip"))
    .values(days=fleet.c.days + bindparam("by"))
)

_free = (
    select(fleet.c.destination, fleet.c.plate)
    .where(fleet.c.destination == bindparam("at"), fleet.c.trip_id.is_(None))
    .order_by(fleet.c.plate)
    .limit(1)
    .with_for_update(skip_locked=True)
    .cte("free")
)
_RENT = (
    update(fleet)
    .where(fleet.c.destination == _free.c.destination, fleet.c.plate == _free.c.plate)
    .values(trip_id=bindparam("for_trip"), days=bindparam("for_days"))
)
_GIVE_BACK = (
    update(fleet).where(fleet.c.trip_id == bindparam("of_trip")).values(trip_id=None, days=None)
)


@cars.handles(RentCar)
def rent(command: RentCar, work: Work) -> None:
    """Rent a car; raises `Rejected` when none is left."""
    rented = work.connection.execute(
        _RENT,
        {"at": command.destination, "for_trip": command.trip_id, "for_days": command.days},
    )
    if rented.rowcount == 0:
        raise Rejected(f"no car is left at {command.destination}")


@cars.handles(CancelCar)
def cancel(command: CancelCar, work: Work) -> None:
    """Give the car back."""
    work.connection.execute(_GIVE_BACK, {"of_trip": command.trip_id})


def shorten(event: TripDisrupted, work: Work) -> None:
    """Back to the days that were rented."""
    work.connection.execute(_CHANGE_RENT, {"of_trip": event.trip_id, "by": -1})


@cars.reacts_to(TripDisrupted, undo=shorten)
def prolong(event: TripDisrupted, work: Work) -> None:
    """Keep the car for a day more."""
    work.connection.execute(_CHANGE_RENT, {"of_trip": event.trip_id, "by": 1})


def stock(connection: Connection, day: Day) -> None:
    """Park cars wherever a flight arrives, in proportion to its seats."""
    connection.execute(
        insert(fleet),
        [
            {"destination": destination, "plate": f"{destination} {number:03}"}
            for destination, seats in day.seats_arriving().items()
            for number in range(1, max(1, int(seats * CARS_PER_SEAT)) + 1)
        ],
    )
