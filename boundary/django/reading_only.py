"""Reading only: what holds while a handler acts outside the database and has not begun to write.

Django commits each statement outside of `atomic()` at once, so what such a handler wrote would stay
though it failed, and come again with each attempt.  So the thread's connections are told to read
only.  The database decides what a write is: no reading of SQL would see into functions, and raw SQL,
`COPY`, locks and the handler's own `atomic()` blocks are covered alike.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from django.db import connections, transaction
from django.db.backends.signals import connection_created

from internals.failures import sqlstate
from saga.errors import NoTransaction

_READ_ONLY = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
_READ_WRITE = "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"
#: Within a block of the host's; it ends with the savepoint.
_READ_ONLY_HERE = "SET LOCAL transaction_read_only = on"

#: The SQLSTATE of a write that is refused for it.
_REFUSED = "25006"

#: Ends it early.
Lift = Callable[[], None]

_here = threading.local()


@contextmanager
def reading_only(aliases: Sequence[str]) -> Iterator[Lift]:
    """Refuse writes on this thread's connections to these databases with `NoTransaction`.

    Yields what ends it early; that raises `NoTransaction` inside a block of the handler's own.
    """
    guards = [_Guard(alias) for alias in aliases]

    def lift() -> None:
        for guard in reversed(guards):
            guard.lift()

    with ExitStack() as stack:
        for guard in guards:
            guard.put()
            stack.callback(guard.lift)
        yield lift


class _Guard:
    """One connection of this thread's, which reads only from `put` to `lift`."""

    def __init__(self, alias: str) -> None:
        self._connection = connections[alias]
        self._savepoint: transaction.Atomic | None = None
        self._there = False

    def put(self) -> None:
        connection = self._connection
        if connection.in_atomic_block:  # a test's
            self._savepoint = transaction.atomic(using=connection.alias)
            self._savepoint.__enter__()
            _set(connection, _READ_ONLY_HERE)
        else:
            _guarded().add(connection.alias)
            if connection.connection is not None:
                _set(connection, _READ_ONLY)
        connection.execute_wrappers.append(_refuse)
        self._there = True

    def lift(self) -> None:
        connection = self._connection
        if not self._there:
            return
        if self._savepoint is None and connection.in_atomic_block:
            raise NoTransaction(
                "work.begin() opens the transaction of the delivery, and this thread is in a block "
                "of the handler's own; leave transaction.atomic() before work.begin()"
            )
        self._there = False
        connection.execute_wrappers.remove(_refuse)
        if self._savepoint is not None:
            self._savepoint.__exit__(None, None, None)
        else:
            _guarded().discard(connection.alias)
            _give_back(connection)


def _give_back(connection: Any) -> None:
    """Leave the connection as it was, whatever the handler has done with it."""
    if connection.connection is None:
        return
    if not connection.get_autocommit():
        connection.close()  # with what the handler has read
        return
    try:
        _set(connection, _READ_WRITE)
    except Exception:  # it is lost, and Django opens another
        connection.close()


def _set(connection: Any, statement: str) -> None:
    # Past Django's cursor: an application's logging and counting need not see it.
    with connection.wrap_database_errors:
        connection.connection.execute(statement)


def _guarded() -> set[str]:
    found: set[str] = _here.__dict__.setdefault("aliases", set())
    return found


def _opened(*, connection: Any, **_: Any) -> None:
    if connection.alias in _guarded():
        _set(connection, _READ_ONLY)


# Once for the process: a connection that is opened meanwhile is to read only too.
connection_created.connect(_opened, dispatch_uid="boundary.django.reading_only")


def _refuse(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: Any) -> Any:
    try:
        return execute(sql, params, many, context)
    except Exception as error:
        if sqlstate(error) != _REFUSED:
            raise
        raise NoTransaction(
            "this handler is external, so no transaction is open while it calls out, and what it "
            "writes (or locks) now would be committed apart from its delivery; call work.begin() "
            "after the call, then write"
        ) from error
