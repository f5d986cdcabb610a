"""After the commit: calls that a caller's own transaction makes right when it is committed.

SQLAlchemy tells of a commit before it happens, and of a Session's own alone after it.  So the driver's
`commit` is what is waited for: each commit, by a Session or a Connection, goes through it.  A
commit that goes another way (two-phase, raw SQL) is noticed when the connection is given back.
"""

import logging
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event
from sqlalchemy.pool import ConnectionPoolEntry

logger = logging.getLogger(__name__)

#: Where `Connection.info` keeps what is to be called.
_CALLS = "saga.after_commit"


def call_after_commit(connection: Connection, call: Callable[[], None]) -> None:
    """Call this once the connection's transaction is committed.

    It is a hint: it may be called after a rollback too, and is lost with the process.
    """
    pool = connection.engine.pool
    if not event.contains(pool, "checkin", _given_back):
        event.listen(pool, "checkin", _given_back)
    calls: list[Callable[[], None]] = connection.info.setdefault(_CALLS, [])
    calls.append(call)
    driver: Any = connection.connection.driver_connection
    if "commit" not in vars(driver):
        info = connection.info
        driver.commit = lambda: _commit(driver, info)


def _commit(driver: Any, info: dict[Any, Any]) -> None:
    del driver.commit
    driver.commit()
    _call_all(info)


def _given_back(driver: Any, record: ConnectionPoolEntry) -> None:
    if driver is not None:
        vars(driver).pop("commit", None)
    _call_all(record.info)


def _call_all(info: dict[Any, Any]) -> None:
    for call in info.pop(_CALLS, ()):
        try:
            call()
        except Exception:  # the commit stands, and the relay will ring
            logger.warning("a call after the commit failed", exc_info=True)
