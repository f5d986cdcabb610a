"""Failures: which errors are the database's, to be retried, and which are the handler's."""

from collections.abc import Iterator

import psycopg
import sqlalchemy.exc
from sqlalchemy import Connection

#: The transaction lost against another one, and is to be run again.
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
#: SQLSTATEs after which the same transaction, run again, may well succeed: serialization
#: failure, deadlock, lock not available, and the server going down or coming up.
_TRANSIENT_STATES = _CONFLICTS | {"57P01", "57P02", "57P03"}
#: Connection exceptions and insufficient resources (disk, memory, connections).
_TRANSIENT_CLASSES = ("08", "53")

#: Errors without the server's word: the pool is exhausted, or the connection died.
_WORDLESS = (
    sqlalchemy.exc.TimeoutError,
    sqlalchemy.exc.PendingRollbackError,
    psycopg.OperationalError,
)


def is_transient(error: BaseException) -> bool:
    """Whether the hop should be run again: nothing is wrong with the handler."""
    if any(getattr(link, "connection_invalidated", False) for link in chain(error)):
        return True
    state = sqlstate(error)
    if state is not None:
        return state in _TRANSIENT_STATES or state.startswith(_TRANSIENT_CLASSES)
    return any(isinstance(link, _WORDLESS) for link in chain(error))


def is_conflict(error: BaseException) -> bool:
    """Whether the database chose this transaction to give way: deadlock or serialization."""
    return sqlstate(error) in _CONFLICTS


def is_server_trouble(error: BaseException) -> bool:
    """Whether the database itself said that it cannot now: conflict, shutdown, no room.

    Other than a connection that failed wordlessly, this cannot be a handler's own remote system
    that is always out of reach.
    """
    return sqlstate(error) is not None and is_transient(error)


def is_lost(connection: Connection) -> bool:
    """Whether a connection has died under its transaction.

    Whatever is raised then says nothing about who raised it: nothing was done.
    """
    # SQLAlchemy knows of what failed in its own hands, the driver of the rest.
    return connection.invalidated or connection.connection.driver_connection.closed  # type: ignore[union-attr]


def describe(error: BaseException) -> str:
    """Return an error as it is kept with a delivery: its type and its text."""
    name = type(error).__name__
    try:
        text = storable(str(error))
    except Exception:  # an error whose own words fail is still to be told
        return name
    return f"{name}: {text}" if text else name


def storable(text: str) -> str:
    """Return text that Postgres takes: it refuses NUL and lone surrogates.

    An error's text must never be what keeps a delivery from being settled.
    """
    return text.replace("\x00", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def sqlstate(error: BaseException) -> str | None:
    """Return the server's code of an error or of what caused it; None where there is none."""
    for link in chain(error):
        state = getattr(link, "sqlstate", None)
        if isinstance(state, str):
            return state
    return None


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes: SQLAlchemy and Django wrap the driver's errors."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__
