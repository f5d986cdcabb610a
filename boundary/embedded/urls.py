"""URLs: embedded servers for a host application that wants their addresses in its configuration."""

import atexit
from pathlib import Path

from sqlalchemy import make_url

from boundary.embedded.servers import EmbeddedServers


def embedded_urls(directory: Path | None = None) -> tuple[str, str]:
    """Start the servers, or join the running ones, for as long as this process lives.

    Args:
        directory: Where they keep what they hold; ``.saga`` in the current folder if not given.

    Returns the URLs of Postgres and of Valkey.  Raises `EmbeddedServersError` if they cannot be
    started.
    """
    servers = EmbeddedServers(directory)
    servers.start()
    atexit.register(servers.stop)
    # The user is called as the framework's schema is, and Postgres would look there first.
    url = make_url(servers.database_url).update_query_dict({"options": "-csearch_path=public"})
    return url.render_as_string(hide_password=False), servers.redis_url
