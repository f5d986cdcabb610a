"""Saga list: many sagas, a line each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from boundary.queries.query import query
from internals.database.unit_of_work import Row, UnitOfWork
from saga.state import Direction, Status

#: Columns of the saga table that make a summary, in the order of its fields.
SUMMARY_COLUMNS = """
    id, name, version, key, status, direction, reason, consumed, started_at, updated_at,
    finished_at, clock_timestamp()"""

_LIST = f"""
SELECT {SUMMARY_COLUMNS} FROM {{schema}}.saga
WHERE (%(name)s::text IS NULL OR name = %(name)s)
  AND (%(status)s::text IS NULL OR status = %(status)s)
  AND (%(since)s::interval IS NULL OR started_at >= now() - %(since)s::interval)
  AND (%(prefix)s::text IS NULL OR starts_with(key, %(prefix)s))
  AND (%(before_id)s::uuid IS NULL
       OR (started_at, id) < (%(before_at)s::timestamptz, %(before_id)s::uuid))
ORDER BY started_at DESC, id DESC
LIMIT %(limit)s
"""

_CHOOSE = f"""
SELECT {SUMMARY_COLUMNS} FROM {{schema}}.saga
WHERE status = ANY (%(statuses)s)
  AND (%(name)s::text IS NULL OR name = %(name)s)
  AND (%(since)s::interval IS NULL OR started_at >= now() - %(since)s::interval)
ORDER BY started_at, id
"""

_COUNT = """
SELECT status, count(*) FROM {schema}.saga
WHERE (%(name)s::text IS NULL OR name = %(name)s)
GROUP BY status
"""

# The index on names and keys is probed once for each name, however many sagas there are.
_NAMES = """
WITH RECURSIVE names AS (
    (SELECT name FROM {schema}.saga ORDER BY name LIMIT 1)
    UNION ALL
    SELECT (SELECT s.name FROM {schema}.saga AS s WHERE s.name > n.name ORDER BY s.name LIMIT 1)
    FROM names AS n WHERE n.name IS NOT NULL
)
SELECT name FROM names WHERE name IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class SagaSummary:
    """One saga as a line of a list.

    Attributes:
        reason: Why it is stuck, or why it compensates.
        consumed: Messages consumed so far.
        at: When this was read, by Postgres' clock.
    """

    id: UUID
    name: str
    version: int
    key: str | None
    status: Status
    direction: Direction
    reason: str | None
    consumed: int
    started_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    at: datetime

    @property
    def reference(self) -> str:
        """What an operator may call it: its business key after its name, or its id."""
        return str(self.id) if self.key is None else f"{self.name}:{self.key}"

    @property
    def age(self) -> timedelta:
        """From its start to its end, or until now if it is not over."""
        return (self.finished_at or self.at) - self.started_at


def list_sagas(
    unit: UnitOfWork,
    schema: str,
    *,
    name: str | None = None,
    status: Status | None = None,
    since: timedelta | None = None,
    key_prefix: str | None = None,
    before: SagaSummary | None = None,
    limit: int = 50,
) -> list[SagaSummary]:
    """Return the sagas that fit all that is given, the one started last first.

    Args:
        unit: The transaction that reads.
        schema: Of the framework's tables.
        name: Of the saga's definition.
        status: The status that they are in.
        since: How long ago they started at most, by Postgres' clock.
        key_prefix: What their business keys begin with.
        before: The last one of the page before: the list goes on with those started before it.
        limit: How many at most.
    """
    rows = query(
        unit,
        schema,
        _LIST,
        name=name,
        status=status and status.value,
        since=since,
        prefix=key_prefix,
        before_at=before and before.started_at,
        before_id=before and before.id,
        limit=limit,
    )
    return [summary(row) for row in rows]


def choose_sagas(
    unit: UnitOfWork,
    schema: str,
    *,
    statuses: Sequence[Status],
    name: str | None = None,
    since: timedelta | None = None,
) -> list[SagaSummary]:
    """Return all sagas in one of these statuses that fit, the one started first first.

    For acts on many: they fit as `list_sagas` has it, so that what was looked at is what is acted
    on.
    """
    rows = query(
        unit,
        schema,
        _CHOOSE,
        statuses=[status.value for status in statuses],
        name=name,
        since=since,
    )
    return [summary(row) for row in rows]


def count_sagas(unit: UnitOfWork, schema: str, *, name: str | None = None) -> Mapping[Status, int]:
    """Return how many sagas are in each status, those that have none included."""
    counted: dict[str, int] = dict(query(unit, schema, _COUNT, name=name))
    return {status: counted.get(status.value, 0) for status in Status}


def saga_names(unit: UnitOfWork, schema: str) -> list[str]:
    """Return the names that sagas have, in order."""
    return [name for (name,) in query(unit, schema, _NAMES)]


def summary(row: Row) -> SagaSummary:
    """Read the columns of `SUMMARY_COLUMNS`."""
    id, name, version, key, status, direction, *rest = row
    return SagaSummary(id, name, version, key, Status(status), Direction(direction), *rest)
