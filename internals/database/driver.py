"""Driver: statements on psycopg's connection itself, past its cursors, in one round trip."""

from typing import Any

import psycopg
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, TransactionStatus

_DONE = (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK)


def control(driver: psycopg.Connection[Any], statements: bytes) -> list[tuple[str | None, ...]]:
    """Run statements in one round trip and return the rows of the last one, as text.

    Not on a cursor: when psycopg sees a rollback there, were it only to a savepoint, it forgets all
    prepared statements of the connection.  Raises what the server says, and
    `psycopg.OperationalError` for a connection that is lost.
    """
    result = driver.pgconn.exec_(statements)
    if result.status not in _DONE:
        error = error_from_result(result)
        if driver.closed and error.sqlstate is None:
            raise psycopg.OperationalError("the connection is lost")
        raise error
    columns = range(result.nfields)
    return [
        tuple(_text(result.get_value(row, column)) for column in columns)
        for row in range(result.ntuples)
    ]


def is_idle(driver: psycopg.Connection[Any]) -> bool:
    """Whether no transaction has begun on the server."""
    return driver.pgconn.transaction_status == TransactionStatus.IDLE


def begin(driver: psycopg.Connection[Any]) -> bytes:
    """Return the statement that begins a transaction as the connection's settings say."""
    parts = ["BEGIN"]
    if driver.isolation_level is not None:
        parts += ["ISOLATION LEVEL", driver.isolation_level.name.replace("_", " ")]
    if driver.read_only is not None:
        parts.append("READ ONLY" if driver.read_only else "READ WRITE")
    if driver.deferrable is not None:
        parts.append("DEFERRABLE" if driver.deferrable else "NOT DEFERRABLE")
    return " ".join(parts).encode()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()
