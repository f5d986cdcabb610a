"""Backfill: a new subscriber is handed past events from the log, and then the live ones.

1. Its subscriptions are recorded as held: what is published from now on waits for it.
2. Whatever began before that is waited for, since it may publish to the subscribers of then.  So
   nothing is missing below the log's end of that moment: the order of numbers is not that of
   commits, and a cursor that ran ahead would lose rows.
3. The log is read up to there, in order and in portions.  What it has been given before stays out.
4. The hold ends; publishers that saw it are waited for; what waited is due.

Each portion is one transaction that moves the cursor too, so a backfill goes on where it was
stopped, wherever that was.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.sql import statements
from internals.store.sql.causal import FIRST_OF_ITS_KEY, OPEN
from internals.store.sql.ordering import HAND_OVER, HELD_UP_BY
from saga.errors import ActRefused

#: Messages of the log that one statement looks at, at most.
WINDOW = 5000

_BEGIN = """
INSERT INTO {schema}.backfill (consumer, since, reached, until, handed)
VALUES (%(consumer)s, %(since)s, 0, 0, 0)
ON CONFLICT (consumer) DO UPDATE
SET since = excluded.since, reached = 0, until = 0, handed = 0,
    started_at = clock_timestamp(), finished_at = NULL
WHERE {schema}.backfill.finished_at IS NOT NULL
RETURNING 1
"""

_STAND = """
SELECT consumer, since, reached, until, handed, started_at, finished_at
FROM {schema}.backfill WHERE %(consumer)s::text IS NULL OR consumer = %(consumer)s
ORDER BY started_at
"""

_HOLD = """
UPDATE {schema}.subscription SET held = %(held)s WHERE consumer = %(consumer)s AND held <> %(held)s
"""

# A session that has only read yet has no transaction id, but may see what it saw at its begin.  What
# kind of session another role's is, is hidden from a role that may not read all statistics.
_BARRIER = "SELECT pg_current_xact_id()::text"
_PASSED = """
SELECT pg_snapshot_xmin(pg_current_snapshot()) > %(barrier)s::text::xid8 AND NOT EXISTS (
    SELECT FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND coalesce(backend_type, 'client backend') = 'client backend' AND backend_xmin IS NOT NULL
      AND age(backend_xmin) >= age(%(barrier)s::text::xid8::xid))
"""

# Both only now: what is committed late may have a low number.
_ENDS = """
UPDATE {schema}.backfill
SET reached = coalesce((SELECT min(seq) - 1 FROM {schema}.outbox WHERE sent_at >= since), 0),
    until = coalesce((SELECT max(seq) FROM {schema}.outbox), 0)
WHERE consumer = %(consumer)s
"""

# Its place in the consumer's inbox is that of its time; only the first of a key is due: what cannot
# be claimed yet is not late.  A step that is still counted waits for it.
_HAND = f"""
WITH at AS MATERIALIZED (
    SELECT consumer, since, reached, until,
           least(until, reached + %(window)s) AS up_to
    FROM {{schema}}.backfill WHERE consumer = %(consumer)s AND finished_at IS NULL FOR UPDATE
), past AS MATERIALIZED (
    SELECT o.id, o.saga_id, o.root_id, o.seq, o.sent_at, s.consumer,
           s.consumer || ':' || (o.payload #>> string_to_array(s.ordered_by, '.')) AS key,
           o.awaits && '{{{{saga.settled,saga.counted}}}}' AS counted
    FROM at JOIN {{schema}}.outbox AS o ON o.seq > at.reached AND o.seq <= at.up_to
    JOIN {{schema}}.subscription AS s ON s.kind = o.kind AND s.consumer = at.consumer
    WHERE o.category = 'event' AND o.sent_at >= at.since AND NOT EXISTS (
        SELECT FROM {{schema}}.inbox AS i
        WHERE i.message_id = o.id AND i.consumer = s.consumer OFFSET 0)
    ORDER BY o.seq LIMIT %(limit)s
), placed AS MATERIALIZED (
    SELECT *, key IS NOT NULL AND (seq > min(seq) OVER (PARTITION BY key) OR EXISTS (
        SELECT FROM {{schema}}.inbox AS e WHERE e.ordering_key = key
          AND e.state IN {OPEN} AND e.ordering_no < seq)) AS behind
    FROM past
), handed AS (
    INSERT INTO {{schema}}.inbox
        (message_id, consumer, saga_id, wait_reason, due_at, ring_at, ordering_key, ordering_no,
         backfill)
    SELECT id, consumer, saga_id, CASE WHEN behind THEN 'ordering' END,
           CASE WHEN NOT behind THEN sent_at END,
           clock_timestamp(), key, CASE WHEN key IS NOT NULL THEN seq END, true
    FROM placed
    ON CONFLICT (message_id, consumer) DO NOTHING
    RETURNING message_id
), held AS MATERIALIZED (
    SELECT s.root_id FROM {{schema}}.settling AS s
    WHERE s.root_id IN (SELECT root_id FROM past WHERE counted) ORDER BY s.root_id FOR UPDATE
), counted AS (
    UPDATE {{schema}}.settling AS s SET open = open + n
    FROM (SELECT root_id, count(*) AS n FROM past JOIN handed ON handed.message_id = past.id
          WHERE counted GROUP BY root_id) AS more
    JOIN held USING (root_id)
    WHERE s.root_id = more.root_id AND s.open > 0 AND s.undo_id IS NULL
)
UPDATE {{schema}}.backfill AS b
SET handed = b.handed + (SELECT count(*) FROM handed),
    reached = CASE WHEN (SELECT count(*) FROM past) < %(limit)s THEN at.up_to
              ELSE (SELECT max(seq) FROM past) END
FROM at WHERE b.consumer = at.consumer
RETURNING (SELECT count(*) FROM handed), b.reached, b.until
"""

_PREVIEW = """
SELECT count(*) FROM {schema}.outbox AS o
JOIN {schema}.subscription AS s ON s.kind = o.kind AND s.consumer = %(consumer)s
WHERE o.category = 'event' AND o.sent_at >= %(since)s AND NOT EXISTS (
    SELECT FROM {schema}.inbox AS i WHERE i.message_id = o.id AND i.consumer = s.consumer)
"""

_RELEASE = f"""
UPDATE {{schema}}.inbox AS i
SET due_at = now(), wait_reason = NULL, ring_at = clock_timestamp()
WHERE consumer = %(consumer)s AND state = 'pending' AND due_at IS NULL
  AND wait_reason IN {HELD_UP_BY} AND {FIRST_OF_ITS_KEY}
"""

_LEAVE_BEHIND = """
UPDATE {schema}.inbox SET wait_reason = 'ordering'
WHERE consumer = %(consumer)s AND state = 'pending' AND due_at IS NULL AND wait_reason = 'backfill'
"""

_FINISH = """
UPDATE {schema}.backfill SET finished_at = clock_timestamp() WHERE consumer = %(consumer)s
"""


@dataclass(frozen=True, slots=True)
class BackfillState:
    """How far a consumer was handed past events."""

    consumer: str
    since: datetime
    #: The log is read up to this number,
    reached: int
    #: and is to be read up to this one; 0 as long as that is not known.
    until: int
    handed: int
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, slots=True)
class Portion:
    """What one transaction handed over."""

    handed: int
    #: Whether the log is read to the end.
    last: bool


class Backfill:
    """One consumer's backfill; each method is a part of one transaction.

    Args:
        schema: Of the framework's tables.
        consumer: A context.
    """

    def __init__(self, schema: str, consumer: str) -> None:
        statements(schema)  # refuses a name that is no identifier
        self._schema = schema
        self._consumer = consumer

    def hold(self, unit: UnitOfWork, since: datetime | None) -> BackfillState:
        """Hold back live events and note since when past ones are wanted; or go on as begun.

        The consumer's subscriptions must be recorded.  Raises `ActRefused` if nothing is begun and
        `since` is not given, or if another one is begun.
        """
        begun = since is not None and self._run(unit, _BEGIN, since=since)
        found = self.state(unit)
        if found is None or (since is None and found.finished_at is not None):
            raise ActRefused(f"no backfill of {self._consumer} is begun; say --since when")
        if since is not None and not begun and found.since != since:
            raise ActRefused(
                f"a backfill of {self._consumer} since {found.since:%Y-%m-%d %H:%M:%S %Z} is begun "
                "and not finished; leave --since out to go on with it"
            )
        self._run(unit, _HOLD, held=True)
        return found

    def preview(self, unit: UnitOfWork, since: datetime) -> int:
        """Return how many past events would be handed over."""
        [(count,)] = self._run(unit, _PREVIEW, since=since)
        return int(count)

    def state(self, unit: UnitOfWork) -> BackfillState | None:
        """Return how far it is; None if there never was one."""
        rows = self._run(unit, _STAND)
        return BackfillState(*rows[0]) if rows else None

    def barrier(self, unit: UnitOfWork) -> str:
        """Return a moment, for `passed`."""
        [(id,)] = self._run(unit, _BARRIER)
        return str(id)

    def passed(self, unit: UnitOfWork, barrier: str) -> bool:
        """Whether all that was under way at that moment is over."""
        [(passed,)] = self._run(unit, _PASSED, barrier=barrier)
        return bool(passed)

    def fix_ends(self, unit: UnitOfWork) -> None:
        """Read the log up to where it ends now, and not further."""
        self._run(unit, _ENDS)

    def hand(self, unit: UnitOfWork, limit: int) -> Portion:
        """Hand over the next `limit` past events, or as many as are left."""
        self._run(unit, HAND_OVER)
        rows = self._run(unit, _HAND, limit=limit, window=WINDOW)
        if not rows:
            return Portion(0, last=True)  # somebody else has finished it
        [(handed, reached, until)] = rows
        return Portion(handed, last=reached >= until)

    def end_hold(self, unit: UnitOfWork) -> None:
        """Let live events go to the consumer as they are published."""
        self._run(unit, _HOLD, held=False)

    def release(self, unit: UnitOfWork) -> None:
        """Make due what was published meanwhile; it is finished."""
        self._run(unit, _RELEASE)
        self._run(unit, _LEAVE_BEHIND)
        self._run(unit, _FINISH)

    def _run(self, unit: UnitOfWork, sql: str, **parameters: object) -> Sequence[Row]:
        return unit.run(sql.format(schema=self._schema), {"consumer": self._consumer, **parameters})


def backfills(unit: UnitOfWork, schema: str) -> list[BackfillState]:
    """Return all backfills, the one begun first first."""
    statements(schema)  # refuses a name that is no identifier
    return [
        BackfillState(*row) for row in unit.run(_STAND.format(schema=schema), {"consumer": None})
    ]
