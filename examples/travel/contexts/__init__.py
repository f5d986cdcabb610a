"""Contexts: who does the work, each with its own tables, none knowing the saga or another's tables.

- `flights` keeps seats on flights; `seating` says which ones.
- `hotels` books rooms and `cars` rents cars at the destination.
- `payments` charges cards; `loyalty` credits miles for what was paid.
- `documents` writes tickets; `notifications` tells travellers what concerns them.

What can run out is one row for each seat, room and car, and a booking takes rows that nobody else
has locked.  So two bookings never wait for each other, in whatever order a batch of them runs, and
nothing can be sold twice.  What another transaction is about to take counts as taken.
"""

from sqlalchemy import Connection
from sqlalchemy.schema import CreateSchema

from examples.travel.contexts import (
    cars,
    documents,
    flights,
    hotels,
    loyalty,
    notifications,
    payments,
    rebooking,
    seating,
)
from examples.travel.contexts.schema import SCHEMA
from examples.travel.day import Day
from internals import Context

__all__ = ["ALL_CONTEXTS", "create_tables", "drop_tables"]

ALL_CONTEXTS: tuple[Context, ...] = (
    rebooking.flights,
    seating.seating,
    hotels.hotels,
    cars.cars,
    payments.payments,
    loyalty.loyalty,
    documents.documents,
    notifications.notifications,
)

_METADATA = tuple(
    module.metadata
    for module in (
        flights,
        seating,
        hotels,
        cars,
        payments,
        loyalty,
        documents,
        notifications,
    )
)


def create_tables(connection: Connection, day: Day) -> None:
    """Create the schema and all tables, and stock them with the seats, rooms and cars of a day.

    The schema is `travel`, or what the connection's `schema_translate_map` makes of it.  Raises
    SQLAlchemy's `ProgrammingError` when the tables are there already.  The caller commits.
    """
    translated = connection.get_execution_options().get("schema_translate_map", {})
    schema = translated.get(SCHEMA, SCHEMA)
    if schema is not None:
        connection.execute(CreateSchema(schema, if_not_exists=True))
    for metadata in _METADATA:
        metadata.create_all(connection, checkfirst=False)
    for module in (flights, seating, hotels, cars):
        module.stock(connection, day)


def drop_tables(connection: Connection) -> None:
    """Drop the tables of all contexts where they exist, and leave the schema.

    The caller commits.
    """
    for metadata in reversed(_METADATA):
        metadata.drop_all(connection)
