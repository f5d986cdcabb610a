"""Open deliveries: what of a saga's is not over, and what holds it up."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from boundary.queries.parked import saga_reference
from boundary.queries.query import query
from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.delivery import DeliveryState
from internals.store.sql.causal import OPEN
from internals.store.sql.ordering import HELD_UP_BY

_UNDOES = "CASE WHEN o.kind = 'saga.undo' THEN o.payload ->> 'message_kind' END"

# The most telling come first, since there may be more than anybody wants to read: what is parked,
# what has failed, what is under way, and then what waits for its turn.  Of those that wait the
# first one of the key is looked up, which may be of another saga.
_OPEN = f"""
WITH told AS MATERIALIZED (
    SELECT i.message_id, o.kind, i.consumer, i.state, i.attempts, i.last_error,
        CASE WHEN i.wait_reason IS NULL THEN i.due_at END AS due_at,
        o.sent_at, o.root_id, {_UNDOES} AS undoes, o.category, o.seq, i.ordering_key,
        i.ordering_no, i.backfill, i.yields, i.state <> 'parked' AS going, i.last_error IS NULL AS well,
        coalesce(i.wait_reason IN {HELD_UP_BY}, false) AS held_up
    FROM {{schema}}.inbox AS i JOIN {{schema}}.outbox AS o ON o.id = i.message_id
    WHERE o.saga_id = %(id)s AND i.state IN {OPEN}
    ORDER BY going, well, held_up, o.seq
    LIMIT 100
)
SELECT t.message_id, t.kind, t.consumer, t.state, t.attempts, t.last_error, t.due_at, t.sent_at,
    t.root_id, t.undoes, t.category = 'timeout',
    t.held_up AND NOT t.backfill AND EXISTS (
        SELECT FROM {{schema}}.subscription AS s
        WHERE s.kind = t.kind AND s.consumer = t.consumer AND s.held),
    t.yields,
    o.id, o.kind, {_UNDOES}, h.consumer, h.state, h.attempts, h.last_error,
    o.saga_id = %(id)s, o.saga_id, o.saga, s.key
FROM told AS t LEFT JOIN LATERAL (
    SELECT * FROM {{schema}}.inbox AS e
    WHERE e.ordering_key = t.ordering_key AND e.state IN {OPEN} AND t.state = 'pending'
      AND e.ordering_no < t.ordering_no
    ORDER BY e.ordering_no LIMIT 1
) AS h ON true
LEFT JOIN {{schema}}.outbox AS o ON o.id = h.message_id
LEFT JOIN {{schema}}.saga AS s ON s.id = o.saga_id
ORDER BY t.going, t.well, t.held_up, t.seq
"""

#: Columns of a row that are the delivery's; those of the one for which it waits come after them.
_OWN_COLUMNS = 13

# A deadline is told to the saga later, and brings nothing of what it waits for.  One that fails is
# trouble like any other.
_COUNTS = f"""
SELECT o.root_id,
    count(*) FILTER (WHERE i.consumer NOT LIKE 'saga.%%' AND o.kind <> 'saga.undo'),
    count(*) FILTER (WHERE o.kind = 'saga.undo'),
    count(*) FILTER (WHERE i.consumer LIKE 'saga.%%')
FROM {{schema}}.inbox AS i JOIN {{schema}}.outbox AS o ON o.id = i.message_id
WHERE o.saga_id = %(id)s AND i.state IN {OPEN}
    AND (o.category <> 'timeout' OR i.state = 'parked' OR i.last_error IS NOT NULL)
GROUP BY o.root_id
"""


@dataclass(frozen=True, slots=True)
class Head:
    """The first open delivery of an ordering key, for which those behind it wait."""

    message_id: UUID
    kind: str
    #: The kind of what it undoes, if it is an order to undo.
    undoes: str | None
    consumer: str
    state: DeliveryState
    attempts: int
    last_error: str | None
    #: Whether it is of the same saga.
    own: bool
    #: Its saga, if it is of another one.
    of: str | None


@dataclass(frozen=True, slots=True)
class OpenDelivery:
    """A delivery of the saga's that is not over: pending, or parked."""

    message_id: UUID
    kind: str
    consumer: str
    state: DeliveryState
    attempts: int
    last_error: str | None
    #: When it is run; None if it does not wait for a time.
    due_at: datetime | None
    sent_at: datetime
    root_id: UUID
    #: The kind of what it undoes, if it is an order to undo.
    undoes: str | None = None
    #: Whether it is a deadline.
    deadline: bool = False
    #: Whether it waits until past events were handed to its consumer.
    held: bool = False
    #: Runs in a row that gave way to the database.
    yields: int = 0
    #: For which one of its ordering key it waits.
    behind: Head | None = None


@dataclass(frozen=True, slots=True)
class OpenCount:
    """How many deliveries are open below one command."""

    #: Of contexts, but for orders to undo.
    deliveries: int = 0
    undos: int = 0
    #: What the saga itself is to consume.
    own: int = 0

    def __add__(self, other: "OpenCount") -> "OpenCount":
        return OpenCount(
            self.deliveries + other.deliveries, self.undos + other.undos, self.own + other.own
        )


def open_deliveries(unit: UnitOfWork, schema: str, id: UUID) -> tuple[OpenDelivery, ...]:
    """Return the open deliveries of a saga, the most telling first, a hundred at most."""
    return tuple(_open(row) for row in query(unit, schema, _OPEN, id=id))


def open_counts(unit: UnitOfWork, schema: str, id: UUID) -> dict[UUID, OpenCount]:
    """Return how many deliveries of a saga are open, by the command below which they are."""
    return {root: OpenCount(*counts) for root, *counts in query(unit, schema, _COUNTS, id=id)}


def _open(row: Row) -> OpenDelivery:
    message_id, kind, consumer, state, *rest = row[:_OWN_COLUMNS]
    delivery = OpenDelivery(message_id, kind, consumer, DeliveryState(state), *rest)
    return replace(delivery, behind=_head(row[_OWN_COLUMNS:]))


def _head(row: Row) -> Head | None:
    message_id, kind, undoes, consumer, state, attempts, error, own, *saga = row
    if message_id is None:
        return None
    of = None if own else saga_reference(*saga)
    return Head(
        message_id, kind, undoes, consumer, DeliveryState(state), attempts, error, bool(own), of
    )
