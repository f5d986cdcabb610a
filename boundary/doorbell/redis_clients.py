"""Redis clients: short of patience, and the same with every version of the driver.

Nothing of what we ask of Redis is worth waiting for.  The driver's own defaults differ: before version
8 it waits for an answer without end, and since version 6 it tries again for some seconds.
"""

from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

#: Seconds in which Redis has to take a connection, and to answer.
PATIENCE = 0.5


def client(url: str, *, blocks: float = 0.0) -> redis.Redis:
    """Return a client that never tries again by itself.

    Args:
        url: Of the server; options in it go before ours.
        blocks: Seconds for which its commands may block in the server.
    """
    options: dict[str, Any] = {
        "socket_timeout": PATIENCE + blocks,
        "retry": Retry(NoBackoff(), 0),
        "retry_on_timeout": False,
        "health_check_interval": 0,
    }
    if not url.startswith("unix:"):  # a socket's connection has no such option in version 5
        options["socket_connect_timeout"] = PATIENCE
    return redis.Redis.from_url(url, **options)


def said(error: Exception) -> str:
    """Return an error of Redis in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
