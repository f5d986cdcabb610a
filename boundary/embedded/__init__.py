"""Postgres and Valkey run from Python wheels, for a project that has set no database or Redis URL.

``EmbeddedServers`` is the whole interface: start it, read the two URLs, stop it. Any number of
processes may do so over one directory; the servers stop when the last one has left.
"""

from boundary.embedded.host import EmbeddedServersError
from boundary.embedded.servers import EmbeddedServers
from boundary.embedded.urls import embedded_urls

__all__ = ["EmbeddedServers", "EmbeddedServersError", "embedded_urls"]
