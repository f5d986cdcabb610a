"""Loyalty: credits miles for what was paid.  Neither payments nor any saga knows that it exists."""

from sqlalchemy import CheckConstraint, Column, Integer, MetaData, Table, Text, Uuid, insert

from examples.travel.contexts.schema import SCHEMA
from examples.travel.messages import PaymentCharged
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

loyalty = Context("loyalty")

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


def miles(amount_cents: int) -> int:
    """Return what a payment earns: a mile for each whole dollar."""
    return amount_cents // 100
