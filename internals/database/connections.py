"""Connections: where a consumer's tables are, and who opens the framework's own transactions there.

One implementation lies over a SQLAlchemy engine; a host framework with connections of its own
brings another, so that its ORM writes, the claim and the sends share one transaction.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

import psycopg
from sqlalchemy import Connection, Engine

from internals.database.ended_sessions import was_ended
from internals.database.errors import is_lost
from internals.database.transaction_limits import Bounds
from internals.database.unit_of_work import (
    SqlAlchemyUnitOfWork,
    UnitOfWork,
    forbid_commit_in_handlers,
    joined,
)


class OpenedUnit(Protocol):
    """A transaction that the framework opened, to be ended once by one of the two."""

    @property
    def unit(self) -> UnitOfWork:
        """The transaction, for the code that works in it."""

    def commit(self) -> None:
        """Commit and give the connection back.

        An error leaves it unknown whether it was committed, and the connection is given back.
        """

    def roll_back(self) -> None:
        """Undo everything and give the connection back, though it may be lost."""


class Database(Protocol):
    """Opens transactions, and joins those of the host."""

    def open(self) -> OpenedUnit:
        """Open a transaction of the framework's own, on a connection of this thread's."""

    def outside(self) -> AbstractContextManager[Callable[[], None]]:
        """A handler runs inside that acts outside the database; gives what ends it as it begins.

        What it writes with the host's own connections would be committed apart from its delivery,
        so it is refused with `NoTransaction`, as far as the host's connections are known here.
        """

    def joined(self, handle: Any) -> UnitOfWork:
        """Return the host's own open transaction; it is never committed by the framework.

        Raises `NoTransaction` if the handle is in none.
        """


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction of its own that only reads, and whose statements see one moment."""
    with engine.connect() as connection:
        connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield connection


class SqlAlchemyDatabase:
    """A database that is reached through a SQLAlchemy engine.

    Args:
        engine: The framework's own, or a host's.
        bounds: Of each transaction that is opened; none if not given.
    """

    def __init__(self, engine: Engine, bounds: Bounds | None = None) -> None:
        self._engine = engine
        self._bounds = bounds
        forbid_commit_in_handlers(engine)

    def open(self) -> "_OpenedConnection":
        try:
            return self._open()
        except psycopg.OperationalError:
            # One from the pool had died, and those that were beside it are forgotten by now.
            return self._open()

    def outside(self) -> AbstractContextManager[Callable[[], None]]:
        return nullcontext(lambda: None)

    def joined(self, handle: Any) -> SqlAlchemyUnitOfWork:
        return joined(handle)

    def _open(self) -> "_OpenedConnection":
        connection = self._engine.connect()
        connection.begin()
        opened = _OpenedConnection(self._engine, connection)
        if self._bounds is not None:
            try:
                self._bounds.begin(connection.connection.driver_connection)  # type: ignore[arg-type]
            except BaseException:
                opened.roll_back()
                raise
        return opened


class _OpenedConnection:
    """A transaction on a connection from the engine's pool."""

    def __init__(self, engine: Engine, connection: Connection) -> None:
        self._engine = engine
        self._connection = connection
        self._session = connection.connection.driver_connection
        self.unit = SqlAlchemyUnitOfWork(connection)

    def commit(self) -> None:
        try:
            if self._connection.get_transaction() is None:
                # A handler's own session was refused a rollback.  SQLAlchemy holds the transaction
                # for ended then, and would commit nothing; Postgres was never told.
                self._connection.begin()
            self._connection.commit()
        finally:
            self.roll_back()

    def roll_back(self) -> None:
        if is_lost(self._connection) or self.unit.stale:
            # Nothing is there to roll back, and trying would raise over what was raised.
            self._connection.invalidate()
            if self.unit.stale or not was_ended(self._session):
                # The server may have gone, and with it every connection that waits in the pool.
                self._engine.dispose()
        elif self.unit.spoilt:
            self._connection.invalidate()
        self._connection.close()  # rolls back what was not committed
