"""Unsubscribe: a consumer gets no more events of some kinds; what is open of them is revoked.

Subscriptions end with one statement, but transactions that began before may yet deliver by them;
so what is open is revoked again when those are over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.outbox import Outbox
from internals.store.sql import statements
from internals.store.sql.causal import OPEN

#: Deliveries that one transaction revokes at most.
PORTION = 500

_SUBSCRIBED = "SELECT kind FROM {schema}.subscription WHERE consumer = %(consumer)s ORDER BY kind"

_END = """
DELETE FROM {schema}.subscription WHERE consumer = %(consumer)s AND kind = ANY (%(kinds)s::text[])
"""

# Its events, and orders to undo what it did with such events.
_THEIRS = """
FROM {schema}.inbox AS i JOIN {schema}.outbox AS o ON o.id = i.message_id
WHERE i.consumer = %(consumer)s AND i.state IN {open}
  AND (o.category = 'event' AND (%(kinds)s::text[] IS NULL OR o.kind = ANY (%(kinds)s::text[]))
    OR o.kind = 'saga.undo'
      AND (%(kinds)s::text[] IS NULL OR o.payload ->> 'message_kind' = ANY (%(kinds)s::text[])))
""".replace("{open}", OPEN)

_OPEN_KINDS = f"""
SELECT DISTINCT CASE WHEN o.kind = 'saga.undo' THEN o.payload ->> 'message_kind' ELSE o.kind END
{_THEIRS} ORDER BY 1
"""

_COUNT = f"SELECT count(*) {_THEIRS}"

# One that runs under a lease is left to its worker; but not what is in another database, or on its
# way there.
_REVOKE = f"""
WITH open AS MATERIALIZED (
    SELECT i.message_id, i.consumer {_THEIRS}
      AND (i.state = 'parked' OR i.lease IS NULL OR i.due_at <= now()
           OR i.wait_reason IS NOT NULL)
    ORDER BY i.message_id LIMIT %(limit)s FOR UPDATE OF i SKIP LOCKED
)
UPDATE {{schema}}.inbox AS i
SET state = 'revoked', outcome = 'unsubscribed', done_at = clock_timestamp(),
    last_error = concat_ws('; ', i.last_error, %(why)s::text)
FROM open WHERE i.message_id = open.message_id AND i.consumer = open.consumer
RETURNING i.message_id, i.consumer, i.ordering_key
"""


@dataclass(frozen=True, slots=True)
class Revoked:
    """What one transaction revoked."""

    count: int
    #: Consumers whose doorbells the caller rings after the commit.
    woken: frozenset[str]


class Retiring:
    """One consumer that is to get no more events; each method is a part of one transaction.

    Args:
        schema: Of the framework's tables.
        consumer: A context.
        outbox: Tells sagas that wait for what is revoked.
    """

    def __init__(self, schema: str, consumer: str, outbox: Outbox) -> None:
        statements(schema)  # refuses a name that is no identifier
        self._schema = schema
        self._consumer = consumer
        self._outbox = outbox

    def kinds(self, unit: UnitOfWork) -> tuple[set[str], set[str]]:
        """Return the kinds that it is subscribed to, and those of what is open."""
        subscribed = {kind for (kind,) in self._run(unit, _SUBSCRIBED)}
        return subscribed, {kind for (kind,) in self._run(unit, _OPEN_KINDS, kinds=None)}

    def count(self, unit: UnitOfWork, kinds: Sequence[str]) -> int:
        """Return how many deliveries of these kinds are open."""
        [(count,)] = self._run(unit, _COUNT, kinds=list(kinds))
        return int(count)

    def end(self, unit: UnitOfWork, kinds: Sequence[str]) -> None:
        """End its subscriptions to these kinds."""
        self._run(unit, _END, kinds=list(kinds))

    def revoke(self, unit: UnitOfWork, kinds: Sequence[str], why: str) -> Revoked:
        """Revoke what is open and not being handled now, a portion of it.

        Sagas that wait until all is settled are notified, and those behind it in order go on.
        """
        rows = self._run(unit, _REVOKE, kinds=list(kinds), why=why, limit=PORTION)
        deliveries = [(id, consumer, key) for id, consumer, key in rows]
        return Revoked(len(rows), frozenset(self._outbox.open_deliveries.close(unit, deliveries)))

    def revoke_forwarded(self, unit: UnitOfWork, kinds: Sequence[str], why: str) -> int:
        """Revoke a portion of what is open in a database of its own; returns how many that were.

        Sagas, and the order of deliveries, are kept at home.
        """
        return len(self._run(unit, _REVOKE, kinds=list(kinds), why=why, limit=PORTION))

    def _run(self, unit: UnitOfWork, sql: str, **parameters: object) -> Sequence[Row]:
        return unit.run(sql.format(schema=self._schema), {"consumer": self._consumer, **parameters})
