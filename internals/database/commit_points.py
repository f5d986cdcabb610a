"""Transactions that the framework itself opens and commits, each at a named boundary.

Every commit of the framework goes through `transaction`; a host's own transactions are never
committed here.  Tests may watch the boundaries, to stop a process or to lose an answer exactly
there, and since the boundaries are a closed list, a new one cannot be forgotten.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from internals.database.connections import Database, OpenedUnit
from internals.database.unit_of_work import UnitOfWork


class Boundary(StrEnum):
    """What is committed."""

    #: A batch of deliveries: effects, messages, saga states and settlements.
    HOP = "hop"
    #: A delivery that was handled under a lease.
    LEASED = "leased"
    #: Deliveries, in the database of a context that has its own.
    FORWARD = "forward"
    #: At home, that they arrived there.
    FORWARDED = "forwarded"
    #: At home, what became of them: messages, saga states and settlements.
    RETURN = "return"
    #: In the context's own database, that home knows.
    RETURNED = "returned"
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

    def __init__(self, database: Database, boundary: Boundary) -> None:
        self._database = database
        self._boundary = boundary
        self._opened: OpenedUnit | None = None

    @property
    def lost(self) -> bool:
        """Whether the connection has died under the transaction."""
        return self._opened is not None and self._opened.unit.lost

    def driver(self) -> Any:
        """Return the driver's connection of the transaction; None while none is open."""
        return None if self._opened is None else self._opened.unit.driver()

    def begin(self) -> UnitOfWork:
        """Return the transaction, opened by now."""
        if self._opened is None:
            self._opened = self._database.open()
        return self._opened.unit

    def prove(self) -> None:
        """Raise what the server has ended the connection for, if it was begun and that happened."""
        if self._opened is not None:
            self._opened.unit.prove()

    def commit(self) -> None:
        """Commit and give the connection back; harmless if nothing was begun."""
        if self._opened is None:
            return
        try:
            _tell(self._boundary, "before")
        except BaseException:
            self.roll_back()
            raise
        opened, self._opened = self._opened, None
        opened.commit()
        _tell(self._boundary, "after")

    def roll_back(self) -> None:
        """Undo everything and give the connection back; it may be begun again."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.roll_back()


@contextmanager
def transaction(database: Database, boundary: Boundary) -> Iterator[UnitOfWork]:
    """Open a transaction, commit it at the end, and roll it back if anything raises."""
    opened = OpenTransaction(database, boundary)
    try:
        yield opened.begin()
    except BaseException:
        opened.roll_back()
        raise
    opened.commit()


def _tell(boundary: Boundary, moment: str) -> None:
    if _watch is not None:
        _watch(boundary, moment)
