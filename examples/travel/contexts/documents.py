"""Documents: writes one ticket for each seat."""

from sqlalchemy import BigInteger, Column, Identity, MetaData, Table, Text, Uuid, insert

from examples.travel.contexts.schema import SCHEMA
from examples.travel.messages import DocumentsIssued, IssueDocuments
from internals import Context, Work

metadata = MetaData(schema=SCHEMA)

tickets = Table(
    "documents_tickets",
    metadata,
    Column("trip_id", Uuid, primary_key=True),
    Column("seat", Text, primary_key=True),
    Column("number", BigInteger, Identity(start=1000001), unique=True, nullable=False),
    Column("flight", Text, nullable=False),
)

documents = Context("documents")

_ISSUE = insert(tickets).returning(tickets.c.number, sort_by_parameter_order=True)


@documents.handles(IssueDocuments, emits=(DocumentsIssued,))
def issue(command: IssueDocuments, work: Work) -> None:
    """Write the tickets."""
    numbers = work.connection.scalars(
        _ISSUE,
        [
            {"trip_id": command.trip_id, "seat": seat, "flight": command.flight}
            for seat in command.seats
        ],
    ).all()
    work.publish(
        DocumentsIssued(
            trip_id=command.trip_id, tickets=tuple(f"ETKT {number}" for number in numbers)
        )
    )
