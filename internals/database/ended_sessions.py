"""Ended sessions: those that this process ended itself, since their run took too long.

That such a connection is lost says nothing of the server.
"""

from typing import Any
from weakref import WeakSet

import psycopg

_ended: "WeakSet[psycopg.Connection[Any]]" = WeakSet()


def note_ended(session: "psycopg.Connection[Any]") -> None:
    """Remember that this process ends this session."""
    _ended.add(session)


def was_ended(session: Any) -> bool:
    """Whether it was this process that ended a session, and not the server."""
    return session in _ended
