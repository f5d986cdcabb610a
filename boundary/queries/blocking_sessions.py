"""Blocking sessions: those that hold the framework's rows and locks, and are idle.

A row's lock stands in no view of Postgres, but whoever has it stands in the row itself, by its
transaction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from boundary.queries.query import query
from boundary.queries.time_format import duration
from internals.database.unit_of_work import UnitOfWork

#: A session that is idle in its transaction for longer than this is reported.
IDLE = timedelta(seconds=5)

_IDLE = """
idle AS MATERIALIZED (
    SELECT a.pid, a.application_name, a.client_addr::text AS address,
        a.state_change AS since, a.backend_xid AS xid
    FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.state LIKE 'idle in transaction%%'
      AND a.state_change < clock_timestamp() - %(idle)s::interval
)
"""

_SESSIONS = f"""
WITH {_IDLE}
SELECT i.pid, i.application_name, i.address, i.since,
    (SELECT count(*) FROM {{schema}}.inbox AS d
     WHERE d.state = 'pending' AND d.xmax = i.xid),
    (SELECT count(*) FROM pg_locks AS l WHERE l.pid = i.pid AND l.locktype = 'advisory' AND l.granted)
FROM idle AS i
WHERE EXISTS (
    SELECT FROM pg_locks AS l LEFT JOIN pg_class AS c ON c.oid = l.relation
    WHERE l.pid = i.pid AND l.granted AND (
        l.locktype = 'relation' AND c.relnamespace = to_regnamespace('{{schema}}')
        AND l.mode NOT IN ('AccessShareLock'))
)
ORDER BY i.since
"""

_OF_SAGA = f"""
WITH {_IDLE}
SELECT i.pid, i.application_name, i.address, i.since, count(d.message_id), 0
FROM idle AS i
LEFT JOIN {{schema}}.inbox AS d ON d.saga_id = %(id)s AND d.state = 'pending' AND d.xmax = i.xid
LEFT JOIN {{schema}}.saga AS s ON s.id = %(id)s AND s.xmax = i.xid
WHERE d.message_id IS NOT NULL OR s.id IS NOT NULL
GROUP BY i.pid, i.application_name, i.address, i.since
ORDER BY i.since
"""


@dataclass(frozen=True, slots=True)
class Holder:
    """A session that is idle in a transaction, and keeps others from the framework's rows."""

    pid: int
    #: As the client says it: of the framework's own connections ``saga PROGRAM HOST PID``.
    application: str
    #: None for a local socket, or where it may not be seen.
    address: str | None
    since: datetime
    #: Deliveries that nobody else can take meanwhile.
    deliveries: int
    #: Ordering keys, and turns of contexts.
    locks: int

    def told(self, now: datetime) -> str:
        """Return who it is and what it holds, in a few words."""
        n, locks = self.deliveries, self.locks
        what = [f"{n} deliver{'y' if n == 1 else 'ies'}"] * (n > 0)
        what += [f"{locks} lock{'s' * (locks != 1)}"] * (locks > 0)
        return (
            f"pid {self.pid} ({self.application or 'no name'}) is idle in a transaction for "
            f"{duration(now - self.since)} and holds {' and '.join(what) or 'the saga'}"
        )


def idle_sessions(unit: UnitOfWork, schema: str) -> Sequence[Holder]:
    """Return the sessions that hold anything of the framework's, those that are idle longest first."""
    return [Holder(*row) for row in query(unit, schema, _SESSIONS, idle=IDLE)]


def holders_of(unit: UnitOfWork, schema: str, id: UUID) -> Sequence[Holder]:
    """Return the idle sessions that hold a saga, or deliveries of it."""
    return [Holder(*row) for row in query(unit, schema, _OF_SAGA, idle=IDLE, id=id)]
