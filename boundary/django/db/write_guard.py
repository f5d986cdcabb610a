"""Write guard: which of Django's connections may write while a handler runs.

Django commits each statement outside of `atomic()` at once, so what a handler wrote past the
transaction of its delivery would stay though it failed, and come again with each attempt.  So it may
write with the connection that is in this transaction; the others only read: those of other aliases,
and those that its tasks have in other threads.  A handler that acts outside the database has no
transaction before it begins one, and reads only till then.

The database decides what a write is: no reading of SQL would see into functions, and raw SQL, `COPY`,
locks and the handler's own `atomic()` blocks are covered alike.  Nothing is set for a session, since
behind a pooler the session is somebody else's with the next transaction.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import psycopg
from django.db import connections, transaction
from django.db.backends.signals import connection_created
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.pq import TransactionStatus

from boundary.django.db.aliases import same_place
from internals.database.driver import begin, control, is_idle
from internals.database.errors import sqlstate
from saga.errors import NoTransaction

_READ_ONLY = b"SET LOCAL transaction_read_only = on"

#: The SQLSTATE of a write that is refused for it.
_REFUSED = "25006"

_NOT_BEGUN = (
    "this handler is external, so no transaction is open while it calls out, and what it writes (or "
    "locks) now would be committed apart from its delivery; call work.begin() after the call, then write"
)

#: What a psycopg connection has the Django connection as whose it is.
_DJANGOS = "_saga_django"

#: Ends it early.
Lift = Callable[[], None]


class _Rule:
    """What holds while one handler runs, for it and for its tasks in other threads."""

    def __init__(self, ours: Sequence[str] | None) -> None:
        #: Aliases of the framework's databases; None if none at all may be written past the handler's
        #: transaction.
        self.ours = ours
        #: Connections that were in a transaction before: the delivery's, and those of a test.
        self._free = [c for c in connections.all(initialized_only=True) if c.in_atomic_block]
        #: Whether the handler has no transaction yet.
        self.early = False
        self.over = False

    def binds(self, connection: Any) -> bool:
        """Whether this connection only reads."""
        if self.over or any(connection is free for free in self._free):
            return False
        return self.ours is None or any(same_place(connection.alias, ours) for ours in self.ours)

    def refusal(self, alias: str) -> str:
        """Return what is said of a write on a connection to this alias."""
        if self.early:
            return _NOT_BEGUN
        return (
            f"what a handler writes on another connection than work.connection, here one to {alias!r}, "
            "would be committed apart from its delivery; write in the handler's own thread (for async "
            "code asgiref's async_to_sync stays in it, asyncio.run does not), and to another database "
            "with a handler that is external, or one of a context that has it for its own"
        )


_rule: ContextVar[_Rule | None] = ContextVar("reading only", default=None)


@contextmanager
def reading_only(aliases: Sequence[str]) -> Iterator[Lift]:
    """Refuse writes to these databases with `NoTransaction`: a handler has no transaction yet.

    Yields what ends it early; that raises `NoTransaction` inside a block of the handler's own.
    """
    with ExitStack() as stack:
        guards = [_Guard(alias, stack) for alias in aliases]
        rule = stack.enter_context(_ruled(_Rule(aliases)))
        rule.early = True

        def lift() -> None:
            for guard in reversed(guards):
                guard.lift()
            rule.over = True

        yield lift


@contextmanager
def writing_in_one() -> Iterator[None]:
    """Refuse writes past the transaction that the thread is in with `NoTransaction`.

    To databases that are not the framework's a handler may write that acts outside.
    """
    outer = _rule.get()
    with _ruled(_Rule(None if outer is None else outer.ours)):
        yield


@contextmanager
def _ruled(rule: _Rule) -> Iterator[_Rule]:
    token = _rule.set(rule)
    try:
        yield rule
    finally:
        rule.over = True
        _rule.reset(token)


class _Guard:
    """One connection of this thread's, for as long as the handler has no transaction."""

    def __init__(self, alias: str, stack: ExitStack) -> None:
        self._connection = connections[alias]
        self._savepoint: transaction.Atomic | None = None
        self._there = True
        if self._connection.in_atomic_block:  # a test's
            self._savepoint = transaction.atomic(using=alias)
            self._savepoint.__enter__()
            with self._connection.wrap_database_errors:
                self._connection.connection.execute(_READ_ONLY)
            self._connection.execute_wrappers.append(_refuse)
        stack.callback(self.lift)

    def lift(self) -> None:
        connection = self._connection
        if not self._there:
            return
        if self._savepoint is not None:
            connection.execute_wrappers.remove(_refuse)
            self._savepoint.__exit__(None, None, None)
        elif connection.in_atomic_block:
            raise NoTransaction(
                "work.begin() opens the transaction of the delivery, and this thread is in a block "
                "of the handler's own; leave transaction.atomic() before work.begin()"
            )
        elif connection.connection is not None and not (
            connection.get_autocommit() and connection.is_usable()
        ):
            # With what the handler has read; or it was lost while it called out, for which its call
            # must not be made again.
            connection.close()
        self._there = False


def _refuse(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    try:
        return execute(sql, params, many, context)
    except Exception as error:
        if sqlstate(error) != _REFUSED:
            raise
        raise NoTransaction(_NOT_BEGUN) from error


class _Obedient:
    """A cursor whose statements only read where a rule says so."""

    connection: Any

    def execute(self, *given: Any, **options: Any) -> Any:
        if _rule.get() is None:  # most of an application's statements
            return super().execute(*given, **options)  # type: ignore[misc]
        with _obeying(self.connection):
            return super().execute(*given, **options)  # type: ignore[misc]

    def executemany(self, *given: Any, **options: Any) -> Any:
        with _obeying(self.connection):
            return super().executemany(*given, **options)  # type: ignore[misc]

    def stream(self, *given: Any, **options: Any) -> Any:
        with _obeying(self.connection):
            yield from super().stream(*given, **options)  # type: ignore[misc]

    @contextmanager
    def copy(self, *given: Any, **options: Any) -> Iterator[Any]:
        with _obeying(self.connection), super().copy(*given, **options) as copy:  # type: ignore[misc]
            yield copy


@contextmanager
def _obeying(driver: psycopg.Connection[Any]) -> Iterator[None]:
    rule = _rule.get()
    connection: Any = getattr(driver, _DJANGOS, None)
    if rule is None or connection is None or not rule.binds(connection):
        yield
        return
    own = _begin(driver)
    try:
        yield
    except BaseException as error:
        if own and not driver.closed and not is_idle(driver):
            control(driver, b"ROLLBACK")
        if isinstance(error, ReadOnlySqlTransaction):
            raise NoTransaction(rule.refusal(connection.alias)) from error
        raise
    if own and not is_idle(driver):
        control(driver, b"COMMIT")


def _begin(driver: psycopg.Connection[Any]) -> bool:
    """Have the next statement only read; returns whether its transaction is its own."""
    if is_idle(driver):
        control(driver, begin(driver) + b"; " + _READ_ONLY)
        return driver.autocommit
    if driver.pgconn.transaction_status == TransactionStatus.INTRANS:
        control(driver, _READ_ONLY)
    return False


def _opened(*, connection: Any, **_: Any) -> None:
    driver = connection.connection
    if connection.vendor != "postgresql" or not isinstance(driver, psycopg.Connection):
        return
    setattr(driver, _DJANGOS, connection)
    if not issubclass(driver.cursor_factory, _Obedient):
        driver.cursor_factory = _obedient(driver.cursor_factory)  # type: ignore[arg-type]


@cache
def _obedient(factory: type[psycopg.Cursor[Any]]) -> type[psycopg.Cursor[Any]]:
    return type(f"Obedient{factory.__name__}", (_Obedient, factory), {})


# Once for the process, before any connection is made: a task of a handler may have one in any thread.
connection_created.connect(_opened, dispatch_uid="boundary.django.db.write_guard")
