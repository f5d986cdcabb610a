"""Export: sagas, messages and deliveries as JSON lines, for checkers and archives outside.

The format is versioned and documented in ``docs/export.md``: within one version, fields are only
ever added.  Memory stays bounded, however much there is.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from internals.store.sql import statements

#: Raised when a field is removed or changes its meaning.
FORMAT = 1

_SAGAS = """
SELECT id, name, version, key, status, direction, data, steps, course, consumed, reason,
       (SELECT max((step->>'generation')::int) FROM json_each(steps) AS s (n, step)) AS generation,
       started_at, updated_at, finished_at
FROM {schema}.saga
WHERE (CAST(:since AS interval) IS NULL OR started_at >= now() - CAST(:since AS interval))
  AND (CAST(:saga AS text) IS NULL OR name = :saga)
ORDER BY started_at, id
"""

_MESSAGES = """
SELECT o.id, o.seq, o.kind, o.category, o.payload, o.saga_id, o.saga, o.causation_id, o.root_id,
       o.recipient, o.sender, o.awaits, o.sent_at, o.depth, CAST(o.origin AS json) AS origin
FROM {schema}.outbox AS o
WHERE (CAST(:since AS interval) IS NULL OR o.sent_at >= now() - CAST(:since AS interval))
  AND (CAST(:saga AS text) IS NULL OR o.saga = :saga)
ORDER BY o.seq
"""

_DELIVERIES = """
SELECT i.message_id, i.consumer, i.saga_id, i.state, i.attempts, i.rings, i.outcome, i.last_error,
       i.position, i.due_at, i.wait_reason, i.started_at, i.done_at, o.causation_id, o.root_id
FROM {schema}.inbox AS i JOIN {schema}.outbox AS o ON o.id = i.message_id
WHERE (CAST(:since AS interval) IS NULL OR o.sent_at >= now() - CAST(:since AS interval))
  AND (CAST(:saga AS text) IS NULL OR o.saga = :saga)
ORDER BY o.seq, i.consumer
"""

_PARTS = (("saga", _SAGAS), ("message", _MESSAGES), ("delivery", _DELIVERIES))

#: Rows that are held in memory at a time.
_PORTION = 1000


def export(
    connection: Connection,
    schema: str,
    *,
    since: timedelta | None = None,
    saga: str | None = None,
) -> Iterator[str]:
    """Yield one JSON object a line: all sagas, then all messages, then all deliveries.

    Args:
        connection: Only read from; at REPEATABLE READ all three parts are of one moment.
        schema: Of the tables.
        since: Only sagas started, and messages sent, so long ago at most, by Postgres' clock.
        saga: Only sagas of this name, and what belongs to them.
    """
    statements(schema)  # refuses a name that is no identifier
    for type_, statement in _PARTS:
        yield from _lines(
            connection, type_, statement.format(schema=schema), {"since": since, "saga": saga}
        )


def _lines(
    connection: Connection, type_: str, statement: str, parameters: dict[str, Any]
) -> Iterator[str]:
    rows = connection.execution_options(yield_per=_PORTION).execute(text(statement), parameters)
    for row in rows.mappings():
        record = {"format": FORMAT, "type": type_, **row}
        yield json.dumps(record, default=_plain, separators=(",", ":"))


def _plain(value: object) -> str:
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be exported")
