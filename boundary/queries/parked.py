"""Parked: deliveries that failed for good and wait for a person."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from boundary.queries.audit import AuditEntry, message_audit
from boundary.queries.query import query
from internals.database.unit_of_work import UnitOfWork
from internals.store.delivery import DeliveryState

# What deliveries of one cause have in common: where they failed, at what, and the first line of the
# error without the words and numbers that differ from one to the next.
_CAUSE = r"""
    regexp_replace(regexp_replace(regexp_replace(
        left(split_part(coalesce(i.last_error, ''), E'\n', 1), 300),
        '[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}', '…', 'g'),
        '''[^'']*''|"[^"]*"', '…', 'g'),
        '[0-9]+', '…', 'g')""".replace("{", "{{").replace("}", "}}")

_GROUP = f"left(md5(i.consumer || ' ' || o.kind || ' ' || {_CAUSE}), 8)"

_FITS = f"""
    i.state = 'parked'
    AND (%(consumer)s::text IS NULL OR i.consumer = %(consumer)s)
    AND (%(kind)s::text IS NULL OR o.kind = %(kind)s)
    AND (%(saga)s::text IS NULL OR o.saga = %(saga)s)
    AND (%(since)s::interval IS NULL OR i.done_at >= now() - %(since)s::interval)
    AND (%(group)s::text IS NULL OR {_GROUP} = %(group)s)"""

_LIST = f"""
SELECT i.message_id, o.kind, i.consumer, o.saga_id, o.saga, s.key, i.attempts, i.last_error,
    i.done_at, clock_timestamp()
FROM {{schema}}.inbox AS i JOIN {{schema}}.outbox AS o ON o.id = i.message_id
LEFT JOIN {{schema}}.saga AS s ON s.id = o.saga_id
WHERE {_FITS}
ORDER BY i.done_at DESC, o.seq DESC, i.consumer
LIMIT %(limit)s
"""

_COUNT = f"""
SELECT count(*) FROM {{schema}}.inbox AS i JOIN {{schema}}.outbox AS o ON o.id = i.message_id
WHERE {_FITS}
"""

_GROUPS = f"""
SELECT {_GROUP}, i.consumer, o.kind, {_CAUSE}, count(*), min(i.done_at), max(i.done_at),
    (array_agg(i.last_error ORDER BY o.seq))[1], clock_timestamp()
FROM {{schema}}.inbox AS i JOIN {{schema}}.outbox AS o ON o.id = i.message_id
WHERE {_FITS}
GROUP BY 1, 2, 3, 4
ORDER BY count(*) DESC, 2, 3, 1
"""

_MESSAGE = """
SELECT o.id, o.kind, o.category, o.sender, o.causation_id, o.root_id, o.saga_id, o.saga, s.key,
    o.sent_at, clock_timestamp(), o.origin, CASE WHEN %(payload)s THEN o.payload::text END
FROM {schema}.outbox AS o LEFT JOIN {schema}.saga AS s ON s.id = o.saga_id
WHERE o.id = %(id)s
"""

_DELIVERIES = """
SELECT consumer, state, attempts, rings, last_error, due_at, done_at, yields
FROM {schema}.inbox WHERE message_id = %(id)s ORDER BY state <> 'parked', consumer
"""


@dataclass(frozen=True, slots=True)
class ParkedFilter:
    """Which parked deliveries are meant: those that fit all that is given."""

    consumer: str | None = None
    kind: str | None = None
    #: Name of the saga that they belong to.
    saga: str | None = None
    #: How long ago they were parked at most, by Postgres' clock.
    since: timedelta | None = None
    #: The id of their cause, as `group_parked` tells it.
    group: str | None = None

    @property
    def given(self) -> bool:
        """Whether it leaves anything out."""
        return self != ParkedFilter()


@dataclass(frozen=True, slots=True)
class ParkedSummary:
    """One parked delivery as a line of a list."""

    message_id: UUID
    kind: str
    consumer: str
    saga_id: UUID | None
    saga: str | None
    key: str | None
    attempts: int
    last_error: str | None
    parked_at: datetime
    #: When this was read, by Postgres' clock.
    at: datetime

    @property
    def saga_reference(self) -> str | None:
        """What an operator may call the saga that it belongs to, if any."""
        return saga_reference(self.saga_id, self.saga, self.key)


@dataclass(frozen=True, slots=True)
class ParkedGroup:
    """Parked deliveries that failed for the same cause, as far as can be told."""

    #: Stays the same as long as the cause does.
    id: str
    consumer: str
    kind: str
    #: The error without what differs from one delivery to the next.
    cause: str
    count: int
    first_at: datetime
    last_at: datetime
    #: The error of the one that was sent first, as it is.
    example: str | None
    #: When this was read, by Postgres' clock.
    at: datetime


@dataclass(frozen=True, slots=True)
class MessageDelivery:
    """One delivery of a message, whatever became of it."""

    consumer: str
    state: DeliveryState
    attempts: int
    rings: int
    last_error: str | None
    due_at: datetime | None
    done_at: datetime | None
    #: Runs in a row that gave way to the database, the last ones.
    yields: int


@dataclass(frozen=True, slots=True)
class MessageDetail:
    """One message with all of its deliveries, the parked ones first."""

    id: UUID
    kind: str
    category: str
    sender: str | None
    causation_id: UUID | None
    root_id: UUID
    saga_id: UUID | None
    saga: str | None
    key: str | None
    sent_at: datetime
    #: When this was read, by Postgres' clock.
    at: datetime
    #: None unless it was asked for.
    payload: Any
    deliveries: tuple[MessageDelivery, ...]
    audit: tuple[AuditEntry, ...]
    #: Of one that came in by a bridge, its bridge, source and id there.
    origin: Mapping[str, str] | None = None

    @property
    def saga_reference(self) -> str | None:
        """What an operator may call the saga that it belongs to, if any."""
        return saga_reference(self.saga_id, self.saga, self.key)


def list_parked(
    unit: UnitOfWork, schema: str, which: ParkedFilter, *, limit: int | None = None
) -> list[ParkedSummary]:
    """Return parked deliveries, the one parked last first; all of them without a limit."""
    rows = query(unit, schema, _LIST, limit=limit, **_parameters(which))
    return [ParkedSummary(*row) for row in rows]


def group_parked(unit: UnitOfWork, schema: str, which: ParkedFilter) -> list[ParkedGroup]:
    """Return the causes of parked deliveries, the most frequent one first."""
    return [ParkedGroup(*row) for row in query(unit, schema, _GROUPS, **_parameters(which))]


def count_parked(unit: UnitOfWork, schema: str, which: ParkedFilter) -> int:
    """Return how many deliveries are parked."""
    [(count,)] = query(unit, schema, _COUNT, **_parameters(which))
    return int(count)


def show_message(
    unit: UnitOfWork, schema: str, id: UUID, *, payload: bool = False
) -> MessageDetail | None:
    """Return a message with its deliveries, or None if there is no such message.

    With `payload`, what it says is read too; it may hold what not everybody may see.
    """
    rows: Sequence[tuple[Any, ...]] = query(unit, schema, _MESSAGE, id=id, payload=payload)
    if not rows:
        return None
    deliveries = tuple(
        MessageDelivery(consumer, DeliveryState(state), *rest)
        for consumer, state, *rest in query(unit, schema, _DELIVERIES, id=id)
    )
    *told, origin, text = rows[0]
    said = None if text is None else json.loads(text)
    came = json.loads(origin) if origin else None
    columns: tuple[Any, ...] = (*told, said, deliveries, message_audit(unit, schema, id), came)
    return MessageDetail(*columns)


def saga_reference(id: UUID | None, name: str | None, key: str | None) -> str | None:
    """Return a saga's business key after its name, or its id, or None if there is no saga."""
    if key is not None:
        return f"{name}:{key}"
    return None if id is None else str(id)


def _parameters(which: ParkedFilter) -> dict[str, Any]:
    return {
        "consumer": which.consumer,
        "kind": which.kind,
        "saga": which.saga,
        "since": which.since,
        "group": which.group,
    }
