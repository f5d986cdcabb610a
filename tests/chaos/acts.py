"""Checks of how sagas ended, and of what an operator did to them."""

from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from tests.chaos.effects import Ended
from tests.chaos.trips import Trip

# Cancelled sagas; whether the first time was before the charge was ordered, if it ever was.
_CANCELLED = """
SELECT a.saga_id, coalesce(min(a.at) < (
    SELECT o.sent_at FROM {schema}.outbox AS o
    WHERE o.saga_id = a.saga_id AND o.kind = 'payments.charge'
), true) AS early
FROM {schema}.audit AS a WHERE a.act = 'cancelled' GROUP BY a.saga_id
"""

_UNAUDITED = """
SELECT m.saga_id, m.acts, coalesce(a.acts, 0)
FROM (SELECT saga_id, count(*) AS acts FROM {schema}.outbox WHERE category = 'act'
      GROUP BY saga_id) AS m
FULL JOIN (SELECT saga_id, count(*) AS acts FROM {schema}.audit
           WHERE reason <> '' AND actor <> '' AND saga_id IS NOT NULL GROUP BY saga_id) AS a USING (saga_id)
WHERE m.acts IS DISTINCT FROM a.acts
"""


def wrong_outcomes(
    connection: Connection, schema: str, trips: Sequence[Trip], ended: Mapping[str, Ended]
) -> Iterator[str]:
    """Tell of trips that ended otherwise than their data, or the operator, decided.

    One that was cancelled when its charge was out already may have passed its pivot.
    """
    rows = connection.execute(text(_CANCELLED.format(schema=schema)))
    cancelled: dict[UUID, bool] = {row.saga_id: row.early for row in rows}
    for trip in trips:
        saga = ended.get(trip.reference)
        status = saga.status if saga else "never begun"
        early = cancelled.get(saga.saga_id) if saga else None
        right = {"compensated"} if trip.refused_by or early else {"completed"}
        if early is False:
            right.add("compensated")
        if status not in right:
            yield f"{trip.reference} should be {' or '.join(sorted(right))}, and is {status}"
        if early is not None and not trip.to_cancel:
            yield f"{trip.reference} was cancelled, and nobody wanted that"


def unaudited(connection: Connection, schema: str, acknowledged: frozenset[UUID]) -> Iterator[str]:
    """Tell of acts without an audit, and of audits without an act."""
    audited = connection.execute(
        text(f"SELECT DISTINCT saga_id FROM {schema}.audit WHERE act = 'cancelled'")
    )
    for id in acknowledged - set(audited.scalars()):
        yield f"saga {id} was acknowledged as cancelled, and the audit does not know"
    for id, acts, audits in connection.execute(text(_UNAUDITED.format(schema=schema))):
        yield f"saga {id} has {acts} acts and {audits} rows in the audit"
