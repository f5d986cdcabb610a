"""Errors: which errors are the database's, to be retried, and which are the handler's."""

from collections.abc import Iterator

import psycopg
import sqlalchemy.exc
from sqlalchemy import Connection

from saga.errors import NoTransaction

#: The transaction lost against another one, and is to be run again.
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
#: The server ended a session, or a transaction, of which it heard nothing for too long, or one that
#: went on for too long.
_FROZEN = frozenset({"25P03", "25P04", "57P05"})
_IDLE = "idle-in-transaction timeout"
#: What a connection is good for nothing after, though it lives: read-only (its server was the primary
#: once), and prepared statements that the server does not know, or knows as others, since a pooler
#: stands between.
_READ_ONLY = "25006"
_STALE_STATES = frozenset({_READ_ONLY, "26000", "42P05"})
#: The same, if it was found while a plan was looked at: a table was altered meanwhile.
_OLD_PLAN = ("0A000", "RevalidateCachedQuery")
#: SQLSTATEs after which the same transaction, run again, may well succeed: serialization
#: failure, deadlock, lock not available, and the server going down or coming up.
_TRANSIENT_STATES = _CONFLICTS | _STALE_STATES | _FROZEN | {"57P01", "57P02", "57P03"}
#: Connection exceptions and insufficient resources (disk, memory, connections).
_TRANSIENT_CLASSES = ("08", "53")

#: A statement asked for more than its settings allow, such as `temp_file_limit`.
_TOO_MUCH = "53400"
#: A lock was not to be had: at once, or within `lock_timeout`.
_NO_LOCK = "55P03"
#: Where Postgres says that it ended a statement that had waited for too long.
_TIMER = "ProcessInterrupts"
#: Files of Postgres in which a function or a trigger raises what its author wants.
_RAISING = frozenset({"pl_exec.c", "plpy_elog.c", "plperl.c", "pltcl.c"})

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
        known = state in _TRANSIENT_STATES or state.startswith(_TRANSIENT_CLASSES)
        return known or is_stale(error)
    return any(isinstance(link, _WORDLESS) for link in chain(error))


def is_conflict(error: BaseException) -> bool:
    """Whether the database chose this transaction to give way: deadlock or serialization."""
    return sqlstate(error) in _CONFLICTS


def is_lost_conflict(error: BaseException) -> bool:
    """Whether the transaction was chosen to give way to another one, which will soon be over."""
    return is_conflict(error) and sqlstate(error) != _NO_LOCK


def is_of_its_statement(error: BaseException) -> bool:
    """Whether a statement brought the error upon itself, though its SQLSTATE is that of trouble.

    It did not want to wait for a lock (``NOWAIT``), exceeded a limit that is set for it, or is a
    function or a trigger that raised this very SQLSTATE.  Run again it may fail for ever, so it is
    a failure of the code that ran it.
    """
    for link in chain(error):
        state, told = getattr(link, "sqlstate", None), getattr(link, "diag", None)
        if not isinstance(state, str) or told is None:
            continue
        if state == _TOO_MUCH or told.source_file in _RAISING:
            return True
        return state == _NO_LOCK and told.source_function not in (None, _TIMER)
    return False


def is_lock_timeout(error: BaseException) -> bool:
    """Whether a lock was waited for as long as was allowed."""
    return sqlstate(error) == "55P03"


def is_frozen(error: BaseException) -> bool:
    """Whether the database ended the transaction since it heard nothing of it for too long."""
    # Of a connection that was closed meanwhile the driver has the server's last words alone.
    return sqlstate(error) in _FROZEN or any(_IDLE in str(link) for link in chain(error))


def is_read_only(error: BaseException) -> bool:
    """Whether a write was refused since the transaction is read-only."""
    return sqlstate(error) == _READ_ONLY


def is_stale(error: BaseException) -> bool:
    """Whether the connection is to be replaced, though it lives."""
    return sqlstate(error) in _STALE_STATES or any(_plan_is_old(link) for link in chain(error))


def prepared_elsewhere(error: BaseException) -> bool:
    """Whether prepared statements went to another server connection than the one that has them."""
    return sqlstate(error) in {"26000", "42P05"}


def is_server_trouble(error: BaseException) -> bool:
    """Whether the database itself said that it cannot now: conflict, shutdown, no room.

    Other than a connection that failed wordlessly, this cannot be a handler's own remote system
    that is always out of reach.
    """
    return sqlstate(error) is not None and is_passing(error)


def is_passing(error: BaseException) -> bool:
    """Whether an error that a handler raised is not to be held against it."""
    return is_transient(error) and not is_of_its_statement(error)


def is_no_room(error: BaseException) -> bool:
    """Whether the database said that it has no room: disk, memory, locks or connections."""
    return (sqlstate(error) or "").startswith("53")


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


def _plan_is_old(error: BaseException) -> bool:
    # By the function: the words are in the server's language.
    return isinstance(error, psycopg.Error) and (
        (error.sqlstate, error.diag.source_function) == _OLD_PLAN
    )


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes: SQLAlchemy and Django wrap the driver's errors.

    What the framework refused a handler is its own error, though the database found it out.
    """
    link: BaseException | None = error
    while link is not None:
        yield link
        link = None if isinstance(link, NoTransaction) else link.__cause__
