"""Documents: writes one ticket for each seat."""

from sqlalchemy import BigInteger, Column, Identity, MetaData, Table, Text, Uuid, delete, insert

from examples.travel.contexts.schema import SCHEMA
from examples.travel.messages import DocumentsIssued, IssueDocuments, ReissueDocuments
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
    _write(command, work)


@documents.handles(ReissueDocuments, emits=(DocumentsIssued,))
def reissue(command: ReissueDocuments, work: Work) -> None:
    """Write new tickets; the old ones are void."""
    work.connection.execute(delete(tickets).where(tickets.c.trip_id == command.trip_id))
    _write(command, work)


def _write(command: IssueDocuments | ReissueDocuments, work: Work) -> None:
    numbers = work.connection.scalars(
        _ISSUE,
        [
            {"trip_id": command.trip_id, "seat": seat, "flight": command.flight}
            for seat in command.seats
        ],
    ).all()
    work.publish(
        DocumentsIssued(
            trip_id=command.trip_id,
            reference=command.reference,
            traveller=command.traveller,
            flight=command.flight,
            tickets=tuple(f"ETKT {number}" for number in numbers),
        )
    )
