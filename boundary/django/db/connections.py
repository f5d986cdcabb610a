"""Connections: the framework's transactions on Django's own connections.

A hop runs inside `atomic()` on the thread's connection, so what a handler does with the ORM, the
claim and the sends commit together.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from django.db import connections, transaction
from django.db.transaction import TransactionManagementError

from boundary.django.db.joining import joined
from boundary.django.db.unit_of_work import DjangoUnitOfWork
from boundary.django.db.write_guard import reading_only
from internals.database.transaction_limits import Bounds
from saga.errors import NoTransaction

_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"


class DjangoDatabase:
    """The database of one alias.

    Args:
        alias: As in ``DATABASES``.
        bounds: Of each transaction that is opened; none if not given.
        guarded: The aliases on which an external handler may not write before `begin()`; this one
            if not given.
    """

    def __init__(
        self, alias: str, bounds: Bounds | None = None, guarded: Sequence[str] = ()
    ) -> None:
        self.alias = alias
        self.bounds = bounds
        self._guarded = guarded or (alias,)
        self._here = threading.local()

    def open(self) -> "_OpenedAtomic":
        """Open a transaction on this thread's connection.

        Raises `NoTransaction` inside an `atomic()` of the host's, unless `nested()` says that a
        savepoint in it is what is wanted.
        """
        inside = connections[self.alias].in_atomic_block
        if inside and not self._nested:
            raise NoTransaction(
                "the framework opens a transaction of its own here, and this thread is in "
                f"transaction.atomic(using={self.alias!r}) already; in a test use "
                "boundary.django.testing"
            )
        return _OpenedAtomic(self, nested=inside)

    def outside(self) -> AbstractContextManager[Callable[[], None]]:
        """Within this the thread's connections to the framework's databases only read."""
        return reading_only(self._guarded)

    def joined(self, handle: Any) -> DjangoUnitOfWork:
        """Return the caller's `atomic()` on this database; the handle is an alias or None."""
        return joined(handle, self.alias)

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Within this, a transaction that is opened inside `atomic()` becomes a savepoint of it."""
        before = self._nested
        self._here.nested = True
        try:
            yield
        finally:
            self._here.nested = before

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Keep connections for several transactions, as Django does for one request.

        They are given back, or looked after, as the settings say (``CONN_MAX_AGE``,
        ``CONN_HEALTH_CHECKS``) at both ends, and not between.
        """
        _close_old_connections()
        self._here.serving = True
        try:
            yield
        finally:
            self._here.serving = False
            _close_old_connections()

    @contextmanager
    def reading(self) -> Iterator[DjangoUnitOfWork]:
        """A unit that only reads.

        Its statements see one moment, unless the caller is in `atomic()` and wants to see what it
        has written itself.
        """
        if connections[self.alias].in_atomic_block:
            yield DjangoUnitOfWork(connections[self.alias])
            return
        with transaction.atomic(using=self.alias):
            unit = DjangoUnitOfWork(connections[self.alias])
            unit.run(_SNAPSHOT, {})
            yield unit

    def close_old(self) -> None:
        """Give the thread's connections back as after a request, unless more work is coming."""
        if not getattr(self._here, "serving", False):
            _close_old_connections()

    @property
    def _nested(self) -> bool:
        return getattr(self._here, "nested", False)


class _OpenedAtomic:
    """An `atomic()` block that is entered, and left by one of the two."""

    def __init__(self, database: DjangoDatabase, *, nested: bool) -> None:
        self._database = database
        self._nested = nested
        database.close_old()
        self._connection = connections[database.alias]
        self._atomic = transaction.atomic(using=database.alias)
        self._atomic.__enter__()
        self.unit = DjangoUnitOfWork(self._connection)
        if database.bounds is not None and not nested:
            try:
                self._connection.ensure_connection()
                database.bounds.begin(self._connection.connection)
            except BaseException:
                self.roll_back()
                raise

    def commit(self) -> None:
        if self._connection.needs_rollback:
            # Leaving the block would undo everything and say nothing.
            self.roll_back()
            raise TransactionManagementError("the transaction was marked for rollback")
        if not self._nested:
            # The commit stands whatever a hook does, and of many handlers' hooks one that fails
            # must not take the others along.  Django logs it.
            self._connection.run_on_commit = [
                (savepoints, call, True) for savepoints, call, *_ in self._connection.run_on_commit
            ]
        try:
            self._atomic.__exit__(None, None, None)
        finally:
            self._give_back()

    def roll_back(self) -> None:
        undone = _Undone()
        try:
            self._atomic.__exit__(_Undone, undone, None)
        finally:
            self._give_back()

    def _give_back(self) -> None:
        done = not self._connection.in_atomic_block
        if done and (self.unit.lost or self.unit.stale or self.unit.spoilt):
            # Others of this process may be lost too: Django finds out when it next uses them.
            if self._connection.connection is not None:
                self._connection.connection.close()  # or a pool would give it out again
            self._connection.close()
        self._database.close_old()


def _close_old_connections() -> None:
    """Do what Django does between two requests, but for transactions that the caller is in.

    Django would close those too: it takes them for left over.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()


class _Undone(Exception):
    """What tells Django that a block is to be rolled back."""
