"""Servers: the configured ones, or embedded ones that this process starts or joins."""

import atexit
from typing import TYPE_CHECKING

from boundary.settings import Settings

if TYPE_CHECKING:
    from boundary.embedded import EmbeddedServers


class Servers:
    """Tells where Postgres and Redis are; starts embedded ones on first use if it must."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._embedded: EmbeddedServers | None = None

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL of Postgres, password included."""
        given = self._settings.database_url
        return given.get_secret_value() if given else self._start().database_url

    @property
    def redis_url(self) -> str:
        """The URL of Redis, password included."""
        given = self._settings.redis_url
        return given.get_secret_value() if given else self._start().redis_url

    def stop(self) -> None:
        """Leave the embedded servers; the last process to leave stops them."""
        if self._embedded is not None:
            self._embedded.stop()
            self._embedded = None

    def _start(self) -> "EmbeddedServers":
        if self._embedded is None:
            from boundary.embedded import EmbeddedServers  # noqa: PLC0415 - an extra

            embedded = EmbeddedServers(
                self._settings.embedded_dir,
                postgres=self._settings.database_url is None,
                valkey=self._settings.redis_url is None,
            )
            embedded.start()
            atexit.register(embedded.stop)
            self._embedded = embedded
        return self._embedded
