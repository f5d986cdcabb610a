"""Running: what is being handled for long, and by which session of the database.

A hop has its deliveries locked, so a row that is pending names the transaction that has it, and
Postgres knows whose that is.  What is handled under a lease has no transaction, but says since when.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from boundary.queries.query import query
from boundary.queries.time_format import duration
from internals.database.unit_of_work import UnitOfWork

# A batch is told by its first delivery.  Of the sessions of other roles Postgres tells nothing.
_RUNNING = """
WITH long AS MATERIALIZED (
    SELECT pid, backend_xid, xact_start, state, host(client_addr) AS host, client_port
    FROM pg_stat_activity
    WHERE datname = current_database() AND backend_xid IS NOT NULL
      AND xact_start < clock_timestamp() - %(longer)s::interval
), locked AS (
    SELECT long.pid, long.state, long.host, long.client_port, i.consumer, count(*) AS deliveries,
        extract(epoch FROM clock_timestamp() - long.xact_start)::float8 AS age,
        (array_agg(i.message_id ORDER BY i.due_at))[1] AS message_id
    FROM long JOIN {schema}.inbox AS i ON i.xmax = long.backend_xid AND i.state = 'pending'
    WHERE %(saga_id)s::uuid IS NULL OR i.saga_id = %(saga_id)s
    GROUP BY 1, 2, 3, 4, 5, 7
), leased AS (
    SELECT NULL::int, NULL, NULL, NULL::int, i.consumer, 1,
        extract(epoch FROM clock_timestamp() - i.claimed_at)::float8, i.message_id
    FROM {schema}.inbox AS i
    WHERE i.state = 'pending' AND i.lease IS NOT NULL AND i.wait_reason IS NULL
      AND i.claimed_at < clock_timestamp() - %(longer)s::interval
      AND (%(saga_id)s::uuid IS NULL OR i.saga_id = %(saga_id)s)
)
SELECT r.consumer, o.kind, r.message_id, r.deliveries, r.age, r.pid, r.state, r.host,
    r.client_port
FROM (SELECT * FROM locked UNION ALL SELECT * FROM leased) AS r
JOIN {schema}.outbox AS o ON o.id = r.message_id
ORDER BY r.age DESC
LIMIT 100
"""


#: What is handled for longer than this is reported.
LONG = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Running:
    """A run of a handler, or of a batch, that is under way for long."""

    consumer: str
    #: What is handled: of a batch the first.
    kind: str
    message_id: UUID
    #: How many the same transaction has.
    deliveries: int
    #: Seconds for which it has been under way.
    age: float
    #: Postgres' process of its session; None for one that is handled under a lease.
    backend: int | None
    #: What the session does: "active", or "idle in transaction" while the handler does not query.
    session: str | None
    #: Where the worker is, as Postgres sees it; None for a local socket.
    host: str | None
    port: int | None

    def __str__(self) -> str:
        beside = f" and {self.deliveries - 1} more" if self.deliveries > 1 else ""
        return (
            f"{self.kind} {self.message_id}{beside} at {self.consumer} for "
            f"{duration(timedelta(seconds=self.age))} {self._who}"
        )

    @property
    def _who(self) -> str:
        if self.backend is None:
            return "under a lease"
        where = f" from {self.host}:{self.port}" if self.host else ""
        return f"by backend {self.backend}, {self.session}{where}"


def running(
    unit: UnitOfWork, schema: str, *, longer: timedelta = LONG, saga_id: UUID | None = None
) -> tuple[Running, ...]:
    """Return what is being handled for longer than this, the longest first, a hundred at most.

    Args:
        unit: Where to read.
        schema: Of the tables.
        longer: How long at least.
        saga_id: The saga; all of them if it is not given.
    """
    rows = query(unit, schema, _RUNNING, longer=longer, saga_id=saga_id)
    return tuple(Running(*row) for row in rows)
