"""Lock waits: hops give way after a moment, and hosts' calls after a while.

What a host calls (`start`, `publish`, `cancel`, `signal`) may need a lock that another session holds
for as long as it likes: it must not wait for it for ever, and the host's transaction is left as it was.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from internals.database.errors import is_lock_timeout
from saga.errors import StillLocked

if TYPE_CHECKING:
    from internals.database.unit_of_work import UnitOfWork

#: How long a hop waits for the lock of an ordering key or of a count, as Postgres says it: far longer
#: than between any hop's last statement and its commit.
KEY_WAIT = "1s"

#: How long it waits once another had waited in vain, and seconds for which that holds: many may wait
#: for the same lock, and one after the other they would keep everybody else.
_SHORT_WAIT = "50ms"
_CROWDED = 5.0


#: Seconds that the question may take whether a session waits for a lock.
_ASKING = 2

_WAITS = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"


class GaveWay(Exception):
    """A hop waited in vain for a lock that another transaction holds between its end and its commit."""


class Crowd:
    """Knows whether hops of one consumer have just waited in vain.  Safe to share between threads."""

    def __init__(self) -> None:
        self._until = 0.0

    def gave_way(self) -> None:
        """A hop waited in vain."""
        self._until = time.monotonic() + _CROWDED

    @property
    def key_wait(self) -> str:
        """How long a hop may wait for a lock now."""
        return _SHORT_WAIT if time.monotonic() < self._until else KEY_WAIT


@contextmanager
def giving_way() -> Iterator[None]:
    """Raise `GaveWay` where the framework's own statement waited in vain."""
    try:
        yield
    except Exception as error:
        if not is_lock_timeout(error):
            raise
        raise GaveWay("another transaction holds an ordering key or a count") from error


@contextmanager
def bounded(unit: "UnitOfWork", seconds: float, what: str) -> Iterator[None]:
    """Raise `StillLocked` if something inside waits longer than this for a lock.

    The transaction stays usable then; what was done inside is undone.

    Args:
        unit: The host's transaction.
        seconds: Its own `lock_timeout` holds where that is shorter.
        what: What is locked, as the error says it.
    """
    try:
        with unit.waiting_at_most(seconds):
            yield
    except Exception as error:
        if not is_lock_timeout(error):
            raise
        raise StillLocked(
            f"{what} is locked by another transaction that does not end (waited {seconds:g} s at "
            "most); try again later: `saga doctor` names sessions that are idle in a transaction"
        ) from error


def shorter(seconds: float) -> str:
    """Return the statement that shortens the wait for locks and gives what it was before."""
    milliseconds = max(1, round(seconds * 1000))
    return (
        "SELECT was, set_config('lock_timeout', CASE WHEN was::interval > interval '0' "
        f"AND was::interval <= interval '{milliseconds} ms' THEN was ELSE '{milliseconds}' END, true) "
        "FROM (SELECT current_setting('lock_timeout') AS was OFFSET 0) AS setting"
    )


def as_before(was: str) -> str:
    """Return the statement that takes the wait back to what `shorter` gave."""
    return f"SELECT set_config('lock_timeout', '{was}', true)"


def waits_for_lock(session: psycopg.Connection[Any]) -> bool:
    """Ask the server, on a connection beside it, whether a session waits for a lock.

    The session's own is busy, and those of a pool may all be.  Behind a pooler the server knows the
    session by another number, and the answer is no.  Raises `psycopg.Error` or `OSError` if the
    server cannot be asked.
    """
    info = session.info
    with psycopg.connect(
        info.dsn, password=info.password or None, connect_timeout=_ASKING, autocommit=True
    ) as beside:
        beside.execute(f"SET statement_timeout = '{_ASKING}s'")
        return beside.execute(_WAITS, [info.backend_pid]).fetchone() is not None
