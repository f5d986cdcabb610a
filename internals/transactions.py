"""Transactions that the framework itself opens and commits, each at a named boundary.

Every commit of the framework goes through `transaction`; a host's own transactions are never
committed here.  Tests may watch the boundaries, to stop a process or to lose an answer exactly
there, and since the boundaries are a closed list, a new one cannot be forgotten.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from sqlalchemy import Connection, Engine

from internals.failures import is_lost


class Boundary(StrEnum):
    """What is committed."""

    #: A batch of deliveries: effects, messages, saga states and settlements.
    HOP = "hop"
    #: A delivery that was handled under a lease.
    LEASED = "leased"
    #: What an operator did, with its audit.
    ACT = "act"
    #: The relay's moved due times.
    RELAY = "relay"
    #: A worker's subscriptions.
    SUBSCRIBE = "subscribe"
    #: The schema.
    MIGRATE = "migrate"


#: Called with the boundary and "before" or "after" its commit; may raise.
Watch = Callable[[Boundary, str], None]

_watch: Watch | None = None


def watch(call: Watch | None) -> None:
    """Have `call` called around each commit in this process; None ends it.  For tests."""
    global _watch  # noqa: PLW0603 - one hook for a process, set before its work begins
    _watch = call


class OpenTransaction:
    """A transaction that is opened when it is first needed, and ended once.

    An error from the commit leaves it unknown whether it was committed: whoever runs the
    transaction again must find out by reading, as a claim does.
    """

    def __init__(self, engine: Engine, boundary: Boundary) -> None:
        self._engine = engine
        self._boundary = boundary
        self._connection: Connection | None = None

    @property
    def lost(self) -> bool:
        """Whether the connection has died under the transaction."""
        return self._connection is not None and is_lost(self._connection)

    def begin(self) -> Connection:
        """Return the connection, in its transaction."""
        if self._connection is None:
            self._connection = self._engine.connect()
            self._connection.begin()
        return self._connection

    def commit(self) -> None:
        """Commit and give the connection back; harmless if nothing was begun."""
        if self._connection is None:
            return
        try:
            _tell(self._boundary, "before")
            if self._connection.get_transaction() is None:
                # A handler's own session was refused a rollback.  SQLAlchemy holds the transaction
                # for ended then, and would commit nothing; Postgres was never told.
                self._connection.begin()
            self._connection.commit()
        finally:
            self._close()
        _tell(self._boundary, "after")

    def roll_back(self) -> None:
        """Undo everything and give the connection back; it may be begun anew."""
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            if is_lost(connection):
                # Nothing is there to roll back, and trying would raise over what was raised.
                connection.invalidate()
                # The server may have gone, and with it every connection that waits in the pool.
                self._engine.dispose()
            connection.close()  # rolls back what was not committed


@contextmanager
def transaction(engine: Engine, boundary: Boundary) -> Iterator[Connection]:
    """Open a transaction, commit it at the end, and roll it back if anything raises."""
    opened = OpenTransaction(engine, boundary)
    try:
        yield opened.begin()
    except BaseException:
        opened.roll_back()
        raise
    opened.commit()


def _tell(boundary: Boundary, moment: str) -> None:
    if _watch is not None:
        _watch(boundary, moment)
