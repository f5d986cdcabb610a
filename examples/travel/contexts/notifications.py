"""Notifications: tells travellers what concerns them.  What was sent cannot be unsent."""

from sqlalchemy import BigInteger, Column, Identity, MetaData, Table, Text, Uuid, insert

from examples.travel.contexts.schema import SCHEMA
from examples.travel.messages import TripDisrupted
from internals import Context, Work, no_undo

metadata = MetaData(schema=SCHEMA)

#: One row is one text message.
sent = Table(
    "notifications_sent",
    metadata,
    Column("number", BigInteger, Identity(), primary_key=True),
    Column("trip_id", Uuid, nullable=False, index=True),
    Column("traveller", Text, nullable=False),
    Column("text", Text, nullable=False),
)

notifications = Context("notifications")


# In the order of what happened: of two messages to one traveller the second may correct the first.
@notifications.reacts_to(
    TripDisrupted, ordered_by="traveller", undo=no_undo("a message cannot be unsent")
)
def tell(event: TripDisrupted, work: Work) -> None:
    """Tell the traveller."""
    work.connection.execute(
        insert(sent).values(
            trip_id=event.trip_id,
            traveller=event.traveller,
            text=f"{event.flight} is cancelled; we look for another flight.",
        )
    )
