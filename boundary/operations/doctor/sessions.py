"""Sessions: how connections reach Postgres, as whom, and which of them stand in others' way."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, text

from boundary.operations.doctor.finding import Finding, Words, fine, note, wrong
from boundary.queries.blocking_sessions import idle_sessions
from internals.database.engines import OVERFLOW
from internals.database.unit_of_work import SqlAlchemyUnitOfWork

_SETTINGS = """
SELECT current_user, current_schema(), current_setting('transaction_read_only') = 'on',
    pg_is_in_recovery(), current_setting('DateStyle'), current_setting('client_encoding'),
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')
"""

_NOW = "SELECT clock_timestamp()"


def check_role(
    connection: Connection, schema: str, pool_size: int, words: Words
) -> Iterator[Finding]:
    """Look at what the role brings along: its search path, its settings, and how many it may be."""
    user, current, read_only, replica, style, encoding, most, used = connection.execute(
        text(_SETTINGS)
    ).one()
    if current == schema:
        why = (
            f"the database user is called {user!r} as the schema is"
            if user == schema
            else (f"the search path begins with {schema!r}")
        )
        yield wrong(
            "search path",
            f"{why}, so your own tables are made in it and a migration tool would drop the framework's",
            "use a user of another name, or another SAGA_SCHEMA",
        )
    else:
        yield fine("search path", f"{current!r} for user {user!r}")
    if read_only and not replica:
        yield wrong(
            "read only",
            f"transactions of user {user!r} are read-only by default",
            f"ALTER ROLE {user} RESET default_transaction_read_only, or name another in {words.database}",
        )
    if not style.startswith("ISO"):
        yield wrong(
            "date style",
            f"DateStyle of user {user!r} is {style}, which the driver cannot read",
            f"ALTER ROLE {user} SET datestyle = 'ISO, MDY'",
        )
    if encoding != "UTF8":
        yield note(
            "encoding",
            f"client_encoding is {encoding}, in which not all text can be written",
            "give the engine client_encoding=utf8",
        )
    process = pool_size + OVERFLOW
    if used + process > most:
        yield note(
            "connections",
            f"{used} of {most} are in use, and a worker process may take {process}",
            "raise max_connections, or lower SAGA_POOL_SIZE or the number of processes",
        )
    else:
        yield fine("connections", f"{used} of {most} in use; a worker process may take {process}")


def check_pooler(connection: Connection) -> Finding:
    """Look whether something stands between that gives each transaction another session."""
    driver: Any = connection.connection.driver_connection
    told = driver.pgconn.backend_pid
    found = set()
    for _ in range(3):
        found.add(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        connection.rollback()
    if found == {told}:
        return fine("pooler", "none between here and Postgres")
    if driver.prepare_threshold is None:
        return fine("pooler", "one between here and Postgres; prepared statements are off")
    return note(
        "pooler",
        "one between here and Postgres; in transaction mode it may mix up prepared statements",
        "set SAGA_PREPARED_STATEMENTS=off, unless it pools sessions or tracks prepared statements",
    )


def check_idle_sessions(connection: Connection, schema: str) -> Finding:
    """Look for sessions that hold deliveries or locks and do nothing."""
    found = idle_sessions(SqlAlchemyUnitOfWork(connection), schema)
    if not found:
        return fine("idle sessions", "none holds deliveries or locks")
    now = connection.execute(text(_NOW)).scalar_one()
    named = "; ".join(each.told(now) for each in found[:3])
    more = f"; and {len(found) - 3} more" if len(found) > 3 else ""
    return wrong(
        "idle sessions",
        f"{named}{more}",
        "a worker's is ended after SAGA_FROZEN_AFTER; any other with "
        f"SELECT pg_terminate_backend({found[0].pid})",
    )
