"""Embedded: a Postgres and a Valkey of the project's own, to try things without servers."""

import atexit
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from boundary.embedded import EmbeddedServers


def embedded_servers(directory: Path | None = None) -> tuple[dict[str, Any], str]:
    """Start the servers, or join the running ones, for as long as this process lives.

    Args:
        directory: Where they keep what they hold; ``.saga`` in the current folder if not given.

    Returns an entry of ``DATABASES`` and the ``REDIS_URL`` of ``SAGA``.  Raises
    `EmbeddedServersError` if they cannot be started.
    """
    servers = EmbeddedServers(directory)
    servers.start()
    atexit.register(servers.stop)
    url = make_url(servers.database_url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username,
        "PASSWORD": url.password,
        "HOST": url.host,
        "PORT": url.port,
        "CONN_MAX_AGE": 60,
        # The user is called as the framework's schema is, and Postgres would look there first.
        "OPTIONS": {"options": "-c search_path=public"},
    }
    return database, servers.redis_url
