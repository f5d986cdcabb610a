"""Dropping a test's schema, after the sessions of killed processes that still work in it."""

import re
import socket

import psutil
from sqlalchemy import Connection, text

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
        return psutil.Process(int(found["pid"])).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
