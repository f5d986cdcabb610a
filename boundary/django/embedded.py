"""Embedded: a Postgres and a Valkey of the project's own, to try things without servers."""

from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from boundary.embedded import embedded_urls


def embedded_servers(directory: Path | None = None) -> tuple[dict[str, Any], str]:
    """Start the servers, or join the running ones, as `embedded_urls` does.

    Returns an entry of ``DATABASES`` and the ``REDIS_URL`` of ``SAGA``.  Raises
    `EmbeddedServersError` if they cannot be started.
    """
    database_url, redis_url = embedded_urls(directory)
    url = make_url(database_url)
    database = {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": url.database,
        "USER": url.username,
        "PASSWORD": url.password,
        "HOST": url.host,
        "PORT": url.port,
        "CONN_MAX_AGE": 60,
        "OPTIONS": dict(url.query),
    }
    return database, redis_url
