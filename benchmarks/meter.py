"""Meter: what Postgres has counted in this database, less what the meter itself did."""

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import psycopg
from sqlalchemy import make_url

from benchmarks.servers import APPLICATION
from boundary import Settings

# A backend reports its commits at most once a second while it works, and for good when it ends.
_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend'
    AND pid <> pg_backend_pid() AND (application_name = %s) = %s
"""
_HOSTS = """
SELECT count(DISTINCT client_addr) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = %s
"""
_COMMITS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_STATEMENTS = """
SELECT sum(calls)::bigint FROM pg_stat_statements
WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_DELIVERIES = """
SELECT count(*) FROM {schema}.inbox JOIN {schema}.outbox ON id = message_id
WHERE state <> 'pending' AND kind <> 'saga.started'
"""

#: Seconds between two readings that must agree, and seconds after which they are given up.
_PAUSE = 0.05
_PATIENCE = 15.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What has happened since the beginning of time; only differences mean something."""

    commits: float
    deliveries: float
    #: None where the extension pg_stat_statements is not at work.
    statements: float | None

    def __sub__(self, other: "Counts") -> "Counts":
        statements = None
        if self.statements is not None and other.statements is not None:
            statements = self.statements - other.statements
        return Counts(self.commits - other.commits, self.deliveries - other.deliveries, statements)

    def __mul__(self, factor: float) -> "Counts":
        statements = None if self.statements is None else self.statements * factor
        return Counts(self.commits * factor, self.deliveries * factor, statements)


class Meter:
    """One connection in autocommit mode: each query is one commit and one statement of its own."""

    def __init__(self, settings: Settings) -> None:
        assert settings.database_url is not None
        url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql")
        self._connection = psycopg.connect(
            url.render_as_string(hide_password=False), autocommit=True, prepare_threshold=0
        )
        self._deliveries = _DELIVERIES.format(schema=settings.db_schema)
        self._own = 0
        self._extended = self._has_statements()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def query(self, statement: str, *parameters: object) -> Any:
        """Return the first column of the first row, or None."""
        self._own += 1
        row = self._connection.execute(statement.encode(), parameters or None).fetchone()
        return None if row is None else row[0]

    def sessions(self) -> int:
        """Our own sessions in this database, but for this one."""
        return int(self.query(_SESSIONS, APPLICATION, True))

    def hosts(self) -> int:
        """Addresses from which there are such sessions."""
        return int(self.query(_HOSTS, APPLICATION))

    def strangers(self) -> int:
        """Sessions of others in this database, whose commits are counted as ours."""
        return int(self.query(_SESSIONS, APPLICATION, False))

    def counts(self) -> Counts:
        """Return what was counted, when all of our other sessions have ended and reported.

        Raises RuntimeError if that takes too long.
        """
        deadline = time.monotonic() + _PATIENCE
        last: int | None = None
        while True:
            busy = self.sessions()
            now = self._commits()
            if not busy and now == last:
                break
            if time.monotonic() > deadline:
                raise RuntimeError("Postgres' count of commits does not come to rest")
            last = now
            time.sleep(_PAUSE)
        statements = self._statements() if self._extended else None
        return Counts(now, self.query(self._deliveries), statements)

    def _commits(self) -> int:
        # What this connection did before is reported at the end of the first query; the second is
        # not yet counted in what it returns.
        self.query("SELECT pg_stat_force_next_flush()")
        own = self._own
        return int(self.query(_COMMITS)) - own

    def _statements(self) -> int:
        own = self._own
        return int(self.query(_STATEMENTS)) - own

    def _has_statements(self) -> bool:
        try:
            return self.query(_STATEMENTS) is not None
        except psycopg.Error:
            self._own = 0  # it failed before anything was counted
            return False
