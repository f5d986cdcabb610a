"""Joining: the caller's own `atomic()`, checked before anything is written in it."""

from typing import Any

from django.db import connections

from boundary.django.db.aliases import same_place
from boundary.django.db.unit_of_work import DjangoUnitOfWork
from saga.errors import NoTransaction


def joined(handle: Any, alias: str) -> DjangoUnitOfWork:
    """Return the transaction that the caller is in as a unit of work; it is never committed here.

    Args:
        handle: An alias of ``DATABASES``; None for the one that sagas are kept in.
        alias: The one that sagas are kept in.

    Raises:
        NoTransaction: The caller is not in `atomic()`, or uses another database.
    """
    using = alias if handle is None else handle
    if not isinstance(using, str):
        raise NoTransaction(
            f"give the alias of the database, such as {alias!r}, not {type(using).__name__}"
        )
    if using != alias and not same_place(using, alias):
        raise NoTransaction(
            f"sagas are kept in the database {alias!r}, and a message that is sent in a "
            f"transaction of {using!r} would not commit with it; use atomic(using={alias!r})"
        )
    connection = connections[using]
    if not connection.in_atomic_block:
        raise NoTransaction(
            f"no transaction is open on the database {using!r}, so nothing would commit the "
            f"message with your work; use `with {_atomic(using)}:`"
        )
    return DjangoUnitOfWork(connection)


def _atomic(using: str) -> str:
    argument = "" if using == "default" else f"using={using!r}"
    return f"transaction.atomic({argument})"
