"""Unit of work: an `atomic()` block of Django's."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.transaction import TransactionManagementError
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzBinaryLoader, TimestamptzLoader

from boundary.django.db.write_guard import writing_in_one
from internals.database.errors import is_read_only, is_stale
from internals.database.local_settings import Watching
from internals.database.lock_waits import as_before, shorter
from internals.database.unit_of_work import Row
from saga.errors import NoTransaction

#: What ends a transaction, or the connection that it is on.
_ENDINGS = ("commit", "rollback", "set_autocommit", "close")


class DjangoUnitOfWork(Watching):
    """The transaction that a Django connection is in.

    Args:
        connection: Of this thread, inside `atomic()`.
    """

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        #: Whether the connection is good for nothing, though it lives.
        self.stale = False
        self._handling = False

    @property
    def lost(self) -> bool:
        driver = self.connection.connection
        return driver is None or driver.closed

    def run(self, statement: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        if self._settings is not None and not self._handling:
            self._settings.put_back()
        # Django's own cursor: it refuses a transaction that is broken, and what an application
        # has put around its queries (logging, counting in tests) sees these too.
        try:
            with self.connection.cursor() as cursor:
                if not settings.USE_TZ:
                    # Django would take the time zone off, and leave times that cannot be compared.
                    for loader in (TimestamptzLoader, TimestamptzBinaryLoader):
                        cursor.adapters.register_loader("timestamptz", loader)
                cursor.execute(statement, parameters)
                return cursor.fetchall() if cursor.description else ()
        except DatabaseError as error:
            own = self.altered and is_read_only(error)
            self.stale = self.stale or (is_stale(error) and not own)
            raise

    def driver(self) -> Any:
        return self.connection.connection

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        with transaction.atomic(using=self.connection.alias):
            yield

    @contextmanager
    def waiting_at_most(self, seconds: float) -> Iterator[None]:
        with self.savepoint():
            [(was, _)] = self.run(shorter(seconds), {})
            yield
            self.run(as_before(was), {})

    @contextmanager
    def handling(self, *, careful: bool = True) -> Iterator[bool]:
        with self.savepoint(), writing_in_one():
            watched = self._watched(self.connection.connection)
            self._forbid_ending()
            watched.begin()
            self._handling = True
            try:
                yield True
                if self.connection.needs_rollback:
                    # Django would undo the handler's writes here and say nothing, and the
                    # delivery would count as done.
                    raise TransactionManagementError(
                        "the handler went on after a query of its had failed, or called "
                        "set_rollback(); put transaction.atomic() around what may fail"
                    )
            finally:
                watched.end()
                self._handling = False
                self._allow_ending()

    def prove(self) -> None:
        # Past Django's cursor: an application's logging and counting need not see it.
        driver = self.connection.connection
        if driver.info.transaction_status != TransactionStatus.INERROR:
            with self.connection.wrap_database_errors:
                driver.execute("SELECT 1")

    def expect_settings(self) -> None:
        self._watched(self.connection.connection).expect()

    def on_commit(self, call: Callable[[], None]) -> None:
        transaction.on_commit(call, using=self.connection.alias, robust=True)

    def _forbid_ending(self) -> None:
        for name in _ENDINGS:
            setattr(self.connection, name, _refuse)

    def _allow_ending(self) -> None:
        for name in _ENDINGS:
            delattr(self.connection, name)


def _refuse(*_: object, **__: object) -> NoReturn:
    raise NoTransaction(
        "a handler must not commit, roll back or close the connection: its effects, its messages "
        "and its delivery are committed together; raise an exception to undo them"
    )
