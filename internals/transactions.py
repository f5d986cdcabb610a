"""Transactions that the framework itself opens and commits, each at a named boundary.

Every commit of the framework goes through `transaction`; a host's own transactions are never
committed here.  Tests may watch the boundaries, to stop a process or to lose an answer exactly
there, and since the boundaries are a closed list, a new one cannot be forgotten.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from sqlalchemy import Connection, Engine


class Boundary(StrEnum):
    """What is committed."""

    #: A batch of deliveries: effects, messages, saga states and settlements.
    HOP = "hop"
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


@contextmanager
def transaction(engine: Engine, boundary: Boundary) -> Iterator[Connection]:
    """Open a transaction, commit it at the end, and roll it back if anything raises.

    An error from the commit itself leaves it unknown whether it was committed: whoever runs the
    transaction again must find out by reading, as a claim does.
    """
    with engine.connect() as connection:
        with connection.begin():
            yield connection
            if _watch is not None:
                _watch(boundary, "before")
        if _watch is not None:
            _watch(boundary, "after")
