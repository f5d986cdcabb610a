"""Unit of work: the owner of the transaction, as the hop's SQL needs it.

The framework never opens a second connection beside the one that holds the user's writes, and
never commits a transaction that it was handed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, NoReturn, Protocol

import psycopg
from psycopg.errors import InFailedSqlTransaction
from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session, scoped_session

from internals.database.after_commit import call_after_commit
from internals.database.driver import begin, control, is_idle
from internals.database.errors import is_lost, is_read_only, is_stale
from internals.database.local_settings import Watching
from internals.database.lock_waits import as_before, shorter
from saga.errors import NoTransaction

Row = tuple[Any, ...]

#: Set in `Connection.info` while a user's handler runs.
_HANDLING = "saga.handling"


class UnitOfWork(Protocol):
    """One open transaction."""

    @property
    def connection(self) -> Any:
        """What the user's code writes with: it is in this transaction."""

    @property
    def lost(self) -> bool:
        """Whether the connection has died under the transaction."""

    def run(self, statement: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        """Run one of the framework's statements on the cursor that owns the transaction."""

    def driver(self) -> Any:
        """Return the driver's connection, with which another thread can end it."""

    def savepoint(self) -> AbstractContextManager[None]:
        """Undo what is done inside if it raises; the transaction stays usable."""

    def waiting_at_most(self, seconds: float) -> AbstractContextManager[None]:
        """As `savepoint`, and what waits longer for a lock inside raises.

        Afterwards the transaction waits as long as it did before.
        """

    def handling(self, *, careful: bool = True) -> AbstractContextManager[bool]:
        """A user's handler runs inside, where committing is an error.

        Says whether what it writes is undone if it raises; without `careful` perhaps it is not,
        and the transaction is good for nothing then.
        """

    def prove(self) -> None:
        """Raise what the server has ended the connection for, if it has."""

    def expect_settings(self) -> None:
        """The handler may change settings of the transaction in ways that nobody sees."""

    @property
    def altered(self) -> bool:
        """Whether a handler has changed settings that the next one must not have."""

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call this after the commit.  It is a hint and may be lost: only doorbells use it."""


class SqlAlchemyUnitOfWork(Watching):
    """A transaction on a SQLAlchemy connection, the framework's own or a caller's."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._handling = False
        #: Whether the last handler's savepoint is still there.
        self._kept = False
        #: Whether the connection is good for nothing, though it lives.
        self.stale = False

    @property
    def lost(self) -> bool:
        return is_lost(self.connection)

    def run(self, statement: str, parameters: Mapping[str, object]) -> Sequence[Row]:
        if self._kept and not self._handling:
            # Rows that were locked before a savepoint and are updated within it cost Postgres a
            # multixact each.
            self._control(b"RELEASE SAVEPOINT saga_handler")
            self._kept = False
        if self._settings is not None and not self._handling:
            self._settings.put_back()
        # The driver's own cursor: the same transaction, without the cost of a result proxy.
        cursor = self._driver.cursor()
        try:
            cursor.execute(statement, parameters)
            # Not `cursor.description`, which makes an object for each column.
            return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else ()
        except psycopg.Error as error:
            if is_stale(error) and not (self.altered and is_read_only(error)):
                # The pool makes another one of it, once this transaction has been given back.
                self.connection.connection.invalidate(error, soft=True)
                self.stale = True
            raise
        finally:
            cursor.close()

    def driver(self) -> psycopg.Connection[Any]:
        return self._driver

    @contextmanager
    def savepoint(self) -> Iterator[None]:
        self.run("SAVEPOINT saga", {})
        try:
            yield
            # Fails if an error of the database was swallowed inside.
            self.run("RELEASE SAVEPOINT saga", {})
        except BaseException:
            self._control(b"ROLLBACK TO SAVEPOINT saga; RELEASE SAVEPOINT saga")
            raise

    @contextmanager
    def waiting_at_most(self, seconds: float) -> Iterator[None]:
        first = begin(self._driver) + b";" if is_idle(self._driver) else b""
        [(was, _)] = self._control(first + f"SAVEPOINT saga_wait; {shorter(seconds)}".encode())
        assert was is not None
        try:
            yield
            self._control(f"{as_before(was)}; RELEASE SAVEPOINT saga_wait".encode())
        except BaseException:
            self._control(b"ROLLBACK TO SAVEPOINT saga_wait; RELEASE SAVEPOINT saga_wait")
            raise

    @contextmanager
    def handling(self, *, careful: bool = True) -> Iterator[bool]:
        if careful:
            self._set_savepoint()
        settings = self._watched(self._driver)
        settings.begin()
        self._handling = True
        connection: Any = self.connection
        info = connection.info  # cannot be asked for once the connection is lost
        try:
            # Refused before SQLAlchemy takes note: it would hold the transaction for ended.
            connection.commit = connection.rollback = connection.get_transaction = _refuse
            info[_HANDLING] = True
            try:
                yield careful
            finally:
                info.pop(_HANDLING, None)
                del connection.commit, connection.rollback, connection.get_transaction
            if self._driver.pgconn.transaction_status == TransactionStatus.INERROR:
                raise InFailedSqlTransaction(
                    "the handler went on after a statement of its had failed; put a savepoint "
                    "around what may fail"
                )
        except BaseException:
            if careful and not self._driver.closed:
                self._control(b"ROLLBACK TO SAVEPOINT saga_handler")
            raise
        finally:
            settings.end()
            self._handling = False

    def prove(self) -> None:
        if self._driver.pgconn.transaction_status != TransactionStatus.INERROR:
            self.run("SELECT 1", {})

    def expect_settings(self) -> None:
        self._watched(self._driver).expect()

    def _set_savepoint(self) -> None:
        # Of many handlers in a row, each takes over from the last: one round trip a handler.
        if is_idle(self._driver):
            self.run("SAVEPOINT saga_handler", {})  # the transaction begins with it
        else:
            release = b"RELEASE SAVEPOINT saga_handler;" if self._kept else b""
            self._control(release + b"SAVEPOINT saga_handler")
        self._kept = True

    @cached_property
    def _driver(self) -> psycopg.Connection[Any]:
        return self.connection.connection.driver_connection  # type: ignore[return-value]

    def _control(self, statements: bytes) -> Sequence[tuple[str | None, ...]]:
        return control(self._driver, statements)

    def on_commit(self, call: Callable[[], None]) -> None:
        call_after_commit(self.connection, call)


def joined(
    handle: "Connection | Session | scoped_session[Any]",
) -> SqlAlchemyUnitOfWork:
    """Return the caller's own transaction as a unit of work; it is never committed here.

    Raises `NoTransaction` for a connection in autocommit mode, and for one that is not to
    Postgres through psycopg.
    """
    sessions = isinstance(handle, Session | scoped_session)
    connection = handle.connection() if sessions else handle  # type: ignore[operator]
    if not isinstance(connection, Connection):
        raise NoTransaction(
            f"give the SQLAlchemy Session or Connection that your own writes use, "
            f"not {type(handle).__name__}"
        )
    if connection.dialect.is_async:
        raise NoTransaction(
            "this Session is the inner one of an AsyncSession, whose connection cannot be used here: "
            "start sagas with a Session of a synchronous engine, in a thread of its own "
            "(asyncio.to_thread), or hand that thread the whole of your transaction"
        )
    if (connection.dialect.name, connection.dialect.driver) != ("postgresql", "psycopg"):
        raise NoTransaction(
            "sagas are kept in Postgres, through psycopg 3; this connection is to "
            f"{connection.dialect.name} through {connection.dialect.driver}"
        )
    if connection.connection.driver_connection.autocommit:  # type: ignore[union-attr]
        raise NoTransaction(
            "this connection is in autocommit mode, so a message would be committed apart from "
            "the rest of your work; use engine.begin() or a Session"
        )
    if not connection.in_transaction():
        raise NoTransaction(
            "no transaction is open on this connection, so nothing would commit the message "
            "with your work; use `with engine.begin() as connection:` or a Session"
        )
    return SqlAlchemyUnitOfWork(connection)


def forbid_commit_in_handlers(engine: Engine) -> None:
    """Make `commit` and `rollback` of a hop's connection an error while a handler runs.

    A handler that committed would keep its effects without its delivery being done, and the
    next worker would do them again.
    """
    for act in ("commit", "rollback"):
        if not event.contains(engine, act, _refuse_while_handling):
            event.listen(engine, act, _refuse_while_handling)


def _refuse_while_handling(connection: Connection) -> None:
    if not connection.invalidated and connection.info.get(_HANDLING):
        _refuse()


def _refuse() -> NoReturn:
    raise NoTransaction(
        "a handler must not commit or roll back: its effects, its messages and its delivery "
        "are committed together; raise an exception to undo them"
    )
