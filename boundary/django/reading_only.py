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

_here = threading.local()


@contextmanager
def reading_only(aliases: Sequence[str]) -> Iterator[None]:
    """Refuse writes on this thread's connections to these databases with `NoTransaction`."""
    with ExitStack() as stack:
        for alias in aliases:
            stack.enter_context(_reading_only(alias))
        yield


@contextmanager
def _reading_only(alias: str) -> Iterator[None]:
    connection = connections[alias]
    with connection.execute_wrapper(_refuse):
        if connection.in_atomic_block:  # a test's
            with transaction.atomic(using=alias):
                _set(connection, _READ_ONLY_HERE)
                yield
            return
        guarded = _guarded()
        guarded.add(alias)
        if connection.connection is not None:
            _set(connection, _READ_ONLY)
        try:
            yield
        finally:
            guarded.discard(alias)
            _give_back(connection)


def _give_back(connection: Any) -> None:
    """Leave the connection as it was, whatever the handler has done with it."""
    if connection.connection is None:
        return
    if connection.in_atomic_block or not connection.get_autocommit():
        # A transaction that the handler has left open: it can hold nothing but what it has read.
        connection.close()
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
