"""Aftercare: the travel agent's own context, where events of the choreography begin a saga.

It learns from events who travels on what, and starts `rebook_trip` for whoever holds tickets of a
flight that is cancelled, in whichever order it hears of the two.
"""

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    select,
)
from sqlalchemy.dialects import postgresql

from examples.travel.contexts.schema import SCHEMA
from examples.travel.disruption import REBOOK_TRIP, Disruption
from examples.travel.messages import DocumentsIssued, FlightCancelled
from internals import Context, Work

metadata = MetaData(schema=SCHEMA)

#: One row is a trip, with the flight that it has tickets of.
itineraries = Table(
    "aftercare_itineraries",
    metadata,
    Column("trip_id", Uuid, primary_key=True),
    Column("reference", Text, nullable=False),
    Column("traveller", Text, nullable=False),
    Column("travellers", Integer, nullable=False),
    Column("flight", Text, nullable=False, index=True),
)

#: One row is a flight that was heard of.
flights = Table(
    "aftercare_flights",
    metadata,
    Column("flight", Text, primary_key=True),
    Column("cancelled", Boolean, nullable=False),
)

aftercare = Context("aftercare")


@aftercare.reacts_to(DocumentsIssued)
def keep(event: DocumentsIssued, work: Work) -> None:
    """Note who travels on what; they may be too late."""
    _keep(work.connection, event)
    if _is_cancelled(work.connection, event.flight):
        _rebook(work, itineraries.c.trip_id == event.trip_id)


@aftercare.reacts_to(FlightCancelled)
def find_others(event: FlightCancelled, work: Work) -> None:
    """Find another flight for everyone who has tickets of this one."""
    if _is_cancelled(work.connection, event.flight, now=True):
        _rebook(work, itineraries.c.flight == event.flight)


def create_tables(connection: Connection) -> None:
    """Create its tables, beside those of the contexts; the caller commits."""
    metadata.create_all(connection, checkfirst=False)


def _rebook(work: Work, whose: ColumnElement[bool]) -> None:
    rows = work.connection.execute(select(itineraries).where(whose)).mappings()
    work.start_many(REBOOK_TRIP, [Disruption.model_validate(row) for row in rows])


def _keep(connection: Connection, event: DocumentsIssued) -> None:
    row = {
        "trip_id": event.trip_id,
        "reference": event.reference,
        "traveller": event.traveller,
        "travellers": len(event.tickets),
        "flight": event.flight,
    }
    statement = postgresql.insert(itineraries).values(row)
    connection.execute(
        statement.on_conflict_do_update(index_elements=[itineraries.c.trip_id], set_=row)
    )


def _is_cancelled(connection: Connection, flight: str, *, now: bool = False) -> bool:
    """Whether a flight is cancelled, or is from now on.

    The flight's row is locked until the commit: of a cancellation and tickets at the same time
    the second one sees the first.
    """
    statement = postgresql.insert(flights).values(flight=flight, cancelled=now)
    found = connection.scalar(
        statement.on_conflict_do_update(
            index_elements=[flights.c.flight],
            set_={"cancelled": flights.c.cancelled | statement.excluded.cancelled},
        ).returning(flights.c.cancelled)
    )
    return bool(found)
