"""Engines: how the framework makes its own, and what each engine needs that hops use."""

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from weakref import WeakSet

from sqlalchemy import Engine, create_engine, event, make_url

#: Connections that an engine opens at most beside those that it keeps.
OVERFLOW = 10

#: Unless the URL says otherwise.  A server that does not answer must not keep the threads of a process
#: for minutes, and one that went without a word is noticed within some 25 seconds.
_PATIENCE: Mapping[str, Any] = {
    "connect_timeout": 5,
    "tcp_user_timeout": 10_000,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    # A role or a database may have another one, in which not all text can be written.
    "client_encoding": "utf8",
}

#: The driver's own setting, which people put into URLs.  0 is off, as with other drivers.
_THRESHOLD = "prepare_threshold"

_engines: "WeakSet[Engine]" = WeakSet()


def make_engine(
    url: str,
    *,
    pool_size: int,
    prepared_statements: bool = True,
    execution_options: Mapping[str, Any] | None = None,
) -> Engine:
    """Return an engine for hops; nothing connects before it is used.

    Args:
        url: SQLAlchemy's URL of Postgres.
        pool_size: Connections that it keeps.
        prepared_statements: Whether the driver prepares statements that it runs often.
        execution_options: SQLAlchemy's.
    """
    asked = make_url(url)
    arguments = {k: v for k, v in _PATIENCE.items() if k not in asked.query}
    threshold = asked.query.get(_THRESHOLD)
    if not prepared_statements:
        arguments[_THRESHOLD] = None
    elif threshold is not None:
        arguments[_THRESHOLD] = prepare_threshold(str(threshold))
    engine = create_engine(
        asked.difference_update_query([_THRESHOLD]),
        pool_size=pool_size,
        max_overflow=OVERFLOW,
        connect_args=arguments,
        execution_options=dict(execution_options or {}),
    )
    event.listen(engine, "do_connect", _name)
    return engine


def prepare_threshold(text: str) -> int | None:
    """Return after how many runs a statement is prepared; None for never.

    Raises `ValueError` for what is neither a number nor a word for off.
    """
    if text.lower() in {"0", "none", "off", "false", ""}:
        return None
    if not text.isdecimal():
        raise ValueError(f"{_THRESHOLD} is a number of runs, or 0 for off, not {text!r}")
    return int(text)


def forget_in_forks(engine: Engine) -> None:
    """Let a forked process begin with connections of its own: a socket can be used by one alone."""
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_forget)
    _engines.add(engine)


_registered: list[bool] = []


def _forget() -> None:
    for engine in list(_engines):
        # Not closed: that would end the parent's sessions.
        engine.dispose(close=False)


def _name(_: Any, __: Any, ___: Any, parameters: dict[str, Any]) -> None:
    """Say in `pg_stat_activity` which process a session is of, unless the host says something."""
    program = Path(sys.argv[0] or "python")
    name = program.parent.name if program.name == "__main__.py" else program.name
    name = f"saga {name} {socket.gethostname()} {os.getpid()}"
    parameters.setdefault("fallback_application_name", name[-63:] if len(name) > 63 else name)
