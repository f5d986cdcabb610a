"""A test's schema: made as the migrations make it, and dropped after who still works in it."""

import re
import socket
from typing import Any

import psutil
from sqlalchemy import Connection, Engine, event, inspect, text

from boundary.migration import migrate

#: What `internals.database.engines` calls a session.
_NAME = re.compile(r"saga .* (?P<host>\S+) (?P<pid>\d+)")

_AT_WORK = text("""
SELECT pid, application_name FROM pg_stat_activity
WHERE datname = current_database() AND application_name LIKE 'saga %' AND (
    query LIKE '%' || :schema || '%' OR pid IN (
        SELECT l.pid FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation
        WHERE c.relnamespace = to_regnamespace(:schema)
    )
)
""")
_END = text("SELECT pg_terminate_backend(:pid, 10000)")


#: What the migrations did in the first schema of this process: its name, and the statements.
_recorded: list[tuple[str, list[tuple[str, Any]]]] = []


def make_schema(engine: Engine, schema: str) -> None:
    """Make a schema with the framework's tables.

    Many hundreds of tests need one, and most of a migration's time is Alembic's own.  So it runs
    once in a process, and what it did is done again under other names.
    """
    if not _recorded:
        _recorded.append((schema, _record(engine, schema)))
        return
    [(first, statements)] = _recorded
    with engine.begin() as connection:
        if inspect(connection).has_table("inbox", schema=schema):
            return  # as the migrations leave it alone
        for statement, parameters in statements:
            connection.exec_driver_sql(statement.replace(first, schema), parameters)


def _record(engine: Engine, schema: str) -> list[tuple[str, Any]]:
    done: list[tuple[str, Any]] = []

    def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
        if not statement.lstrip().upper().startswith("SELECT"):
            done.append((statement, parameters))

    event.listen(engine, "before_cursor_execute", note)
    try:
        migrate(engine, schema)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return done


def drop_schema(connection: Connection, schema: str, *, lock_timeout: str = "10s") -> None:
    """Drop a schema, if it is there.

    Postgres does not notice that a client was killed while it runs its statement: that session goes
    on to lock one table after the other, as the dropping does, and the two can deadlock.
    """
    for session in connection.execute(_AT_WORK, {"schema": schema}).all():
        if _is_of_a_dead_process(session.application_name):
            connection.execute(_END, {"pid": session.pid})
    # Who still holds a lock here is alive, such as a thread of a failed test: that is an error.
    connection.execute(text(f"SET LOCAL lock_timeout = '{lock_timeout}'"))
    connection.execute(text(f"DROP SCHEMA IF EXISTS {schema} CASCADE"))


def _is_of_a_dead_process(application_name: str) -> bool:
    found = _NAME.fullmatch(application_name)
    if found is None or found["host"] != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(int(found["pid"])).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
