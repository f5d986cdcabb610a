"""Loyalty: credits miles for what was paid.  Neither payments nor any saga knows that it exists."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    delete,
    insert,
)

from examples.travel.contexts.schema import SCHEMA
from examples.travel.messages import PaymentCharged, TripDisrupted
from internals import Context, Work

metadata = MetaData(schema=SCHEMA)

#: One row is what one trip earned; a traveller's miles are their sum.
earned = Table(
    "loyalty_credits",
    metadata,
    Column("trip_id", Uuid, primary_key=True),
    Column("traveller", Text, nullable=False, index=True),
    Column("miles", Integer, CheckConstraint("miles >= 0"), nullable=False),
)

#: One row is what was given to a traveller whom a flight made wait.
goodwill = Table(
    "loyalty_goodwill",
    metadata,
    Column("trip_id", Uuid, primary_key=True),
    Column("flight", Text, primary_key=True),
    Column("traveller", Text, nullable=False, index=True),
    Column("miles", Integer, CheckConstraint("miles > 0"), nullable=False),
)

loyalty = Context("loyalty")

#: Miles for having to wait.
GOODWILL = 500

_CREDIT = insert(earned)


@loyalty.reacts_to(PaymentCharged)
def credit(event: PaymentCharged, work: Work) -> None:
    """Credit the miles of one payment."""
    work.connection.execute(
        _CREDIT,
        {
            "trip_id": event.trip_id,
            "traveller": event.traveller,
            "miles": miles(event.amount_cents),
        },
    )


def take_back(event: TripDisrupted, work: Work) -> None:
    """Nobody waits."""
    work.connection.execute(
        delete(goodwill).where(
            goodwill.c.trip_id == event.trip_id, goodwill.c.flight == event.flight
        )
    )


@loyalty.reacts_to(TripDisrupted, undo=take_back)
def make_amends(event: TripDisrupted, work: Work) -> None:
    """Give miles to whoever has to wait."""
    work.connection.execute(
        insert(goodwill).values(
            trip_id=event.trip_id,
            flight=event.flight,
            traveller=event.traveller,
            miles=GOODWILL,
        )
    )


def miles(amount_cents: int) -> int:
    """Return what a payment earns: a mile for each whole dollar."""
    return amount_cents // 100
