"""Circuit breaker: whether a database answers, found out by one thread of a process at a time.

A process has few threads, and each that waits for a server which does not answer is one fewer for
all other contexts.  So once one could not connect, the others do not try for a while.
"""

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import psycopg
import sqlalchemy.exc

from internals.database.connections import Database, OpenedUnit
from internals.database.errors import describe, is_transient
from internals.database.unit_of_work import UnitOfWork
from saga.backoff import Backoff

#: Until the next try.
_BACKOFF = Backoff(0.25, cap=5.0)


class OutOfReach(psycopg.OperationalError):
    """The database did not answer a moment ago, and is tried again soon."""


class Reach:
    """A `Database` that is not asked while it is known not to answer.

    Safe to share between threads.

    Args:
        database: The database.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        #: In a row.
        self._failures = 0
        self._next = 0.0
        self._trying = False
        self._why = ""

    @property
    def away(self) -> bool:
        """Whether it did not answer, and this is not the time to try again."""
        return self._failures > 0 and (self._trying or time.monotonic() < self._next)

    @property
    def why(self) -> str:
        """Why it did not answer, when it last did not."""
        return self._why

    def open(self) -> OpenedUnit:
        """Open a transaction; raises `OutOfReach` without a try while it is away."""
        trying = self._take()
        try:
            opened = self._database.open()
        except BaseException as error:
            self._tell(trying, _says_nothing(error))
            raise
        self._tell(trying, None)
        return opened

    def outside(self) -> AbstractContextManager[Callable[[], None]]:
        return self._database.outside()

    def joined(self, handle: Any) -> UnitOfWork:
        return self._database.joined(handle)

    def _take(self) -> bool:
        """Return whether this thread is the one that finds out."""
        with self._lock:
            if self.away:
                raise OutOfReach(f"the database did not answer a moment ago: {self._why}")
            self._trying = self._failures > 0
            return self._trying

    def _tell(self, trying: bool, why: str | None) -> None:
        with self._lock:
            if trying:
                self._trying = False
            if why is None:
                self._failures = 0
            else:
                self._why = why
                self._failures += 1
                self._next = time.monotonic() + _BACKOFF.longest(self._failures)


def _says_nothing(error: BaseException) -> str | None:
    """Return why the server does not answer; None if it may: an empty pool says nothing of it."""
    if is_transient(error) and not isinstance(error, sqlalchemy.exc.TimeoutError):
        return describe(error).strip()
    return None
