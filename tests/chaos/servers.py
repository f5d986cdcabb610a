"""The run's own Postgres and Valkey: in a folder of its own, stopped hard and started again.

The tables lie on a small tmpfs, if one may be mounted, so that a disk can be full.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
import redis
from psycopg import sql
from sqlalchemy.engine import make_url

from boundary.embedded import EmbeddedServers
from boundary.embedded.host import Account
from tests.chaos.plan import SCHEMA

#: Megabytes of the tmpfs, and on top of that for each thousand trips.
_DISK = 96
_DISK_PER_THOUSAND = 96

_GONE = 60.0

_OPEN = """
SELECT FROM pg_stat_activity WHERE application_name = %s AND state <> 'idle' LIMIT 1
"""


class OwnServers:
    """Servers that this run may do anything to.

    Args:
        trips: How much room the tables will need.
        small_disk: Whether the tables go on a tmpfs.
        apart: Whether there is a second Postgres, for the partners.
        keep: Whether the folder is left behind.
    """

    def __init__(
        self, trips: int, *, small_disk: bool, apart: bool = False, keep: bool = False
    ) -> None:
        self._trips = trips
        self._apart = apart
        self._partners: EmbeddedServers | None = None
        self._keep = keep
        self._small_disk = small_disk
        self._stack = ExitStack()
        #: Why there is no tmpfs although there should be one.
        self.no_disk: str | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(tempfile.mkdtemp(prefix="saga-chaos-", dir="/tmp")).resolve()
            self.folder.chmod(0o755)
            (self.folder / "pid").write_text(str(os.getpid()))
            stack.callback(self._leave)
            disk = self._mount(stack) if self._small_disk else None
            self._embedded = EmbeddedServers(self.folder / "servers", durable=True)
            stack.enter_context(self._embedded)
            if self._apart:
                folder = self.folder / "partners"
                self._partners = EmbeddedServers(folder, durable=True, valkey=False)
                stack.enter_context(self._partners)
            self.tell_ports()
            with self.connect() as connection:
                self._prepare(connection, disk)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    @property
    def database_url(self) -> str:
        """SQLAlchemy's URL; the run's tables are found without naming the schema."""
        return _searching(self._embedded.database_url)

    @property
    def partners_url(self) -> str | None:
        """The same of the partners' own database, if they have one."""
        return None if self._partners is None else _searching(self._partners.database_url)

    @property
    def redis_url(self) -> str:
        return self._embedded.redis_url

    def connect(self) -> psycopg.Connection[tuple[object, ...]]:
        """Return a plain connection in autocommit mode, straight to the server."""
        return _connect(self._embedded)

    def connect_to_all(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """Iterate over connections to each Postgres, open as long as they are looked at."""
        for servers in filter(None, (self._embedded, self._partners)):
            with _connect(servers) as connection:
                yield connection

    def redis(self) -> redis.Redis:
        """Return a client straight to the server."""
        return redis.Redis.from_url(self.redis_url, socket_timeout=10)

    def in_transaction(self, name: str) -> bool:
        """Whether an application of this name has a transaction open; False if it is not told."""
        try:
            return any(
                connection.execute(_OPEN, [name]).fetchone() is not None
                for connection in self.connect_to_all()
            )
        except psycopg.Error:
            return False

    def start(self) -> None:
        """Bring back whatever is down."""
        self._embedded.start()
        if self._partners is not None:
            self._partners.start()
        self.tell_ports()

    def stop_postgres(self, down: float, rng: random.Random) -> None:
        """Stop Postgres at once, as a crash does, and start it again after so many seconds.

        With two of them, it is the one or the other.
        """
        struck = rng.choice([s for s in (self._embedded, self._partners) if s is not None])
        self._end(lambda: struck.postgres_pid, signal.SIGQUIT)
        time.sleep(down)
        self.start()

    def kill_redis(self, down: float) -> None:
        """SIGKILL Redis, and start it again after so many seconds."""
        self._end(lambda: self._embedded.valkey_pid, signal.SIGKILL)
        time.sleep(down)
        self.start()

    def hang_redis(self, seconds: float) -> bool:
        """Have Redis take connections and answer nothing for so many seconds."""
        pid = self._embedded.valkey_pid
        if pid is None:
            return False
        os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)
        return True

    def fill_disk(self, seconds: float, rng: random.Random) -> bool:
        """Leave the tables no room for so many seconds; whether a write really failed by it."""
        if self._disk is None:
            return False
        with self.connect() as connection:
            connection.execute("DROP TABLE IF EXISTS filler")
            connection.execute("CREATE TABLE filler (padding text)")
            used = shutil.disk_usage(self._disk).used
            _mount(f"remount,size={used + rng.randrange(4) * 8192}", self._disk)
            try:
                full = _is_full(connection)
                time.sleep(seconds)
            finally:
                _mount(f"remount,size={self._size}", self._disk)
            connection.execute("DROP TABLE filler")
        return full

    def tell_ports(self) -> None:
        """Write down where the servers listen, for the proxy."""
        urls = {"postgres": self.database_url, "redis": self.redis_url}
        if self.partners_url is not None:
            urls["partners"] = self.partners_url
        for server, url in urls.items():
            (self.folder / f"{server}.port").write_text(str(make_url(url).port))

    def _leave(self) -> None:
        if self._keep:
            sys.stderr.write(f"The run's files are in {self.folder}.\n")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _size(self) -> int:
        return (_DISK + _DISK_PER_THOUSAND * self._trips // 1000) << 20

    def _mount(self, stack: ExitStack) -> Path | None:
        disk = self.folder / "disk"
        disk.mkdir()
        try:
            _mount(f"size={self._size},mode=0700", disk, new=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.no_disk = f"a tmpfs cannot be mounted here ({error}), so no disk can be full"
            return None
        stack.callback(subprocess.run, ["umount", "--lazy", str(disk)], check=False)
        Account.of_servers().own(disk)
        return disk

    def _prepare(
        self, connection: psycopg.Connection[tuple[object, ...]], disk: Path | None
    ) -> None:
        self._disk = disk
        if disk is not None:
            connection.execute(
                sql.SQL("CREATE TABLESPACE small_disk LOCATION {}").format(sql.Literal(str(disk)))
            )
            connection.execute("ALTER DATABASE saga SET default_tablespace = small_disk")

    def _end(self, pid_of: Callable[[], int | None], number: signal.Signals) -> None:
        pid = pid_of()
        if pid is None:
            return
        os.kill(pid, number)
        deadline = time.monotonic() + _GONE
        while pid_of() == pid:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} did not end")
            time.sleep(0.02)


def _searching(url: str) -> str:
    found = make_url(url).update_query_dict({"options": f"-csearch_path={SCHEMA}"})
    return found.render_as_string(hide_password=False)


def _connect(servers: EmbeddedServers) -> psycopg.Connection[tuple[object, ...]]:
    url = servers.database_url.replace("+psycopg", "")
    return psycopg.connect(url, autocommit=True, connect_timeout=10)


def _mount(options: str, disk: Path, *, new: bool = False) -> None:
    what = ["-t", "tmpfs", "tmpfs"] if new else []
    subprocess.run(
        ["mount", *what, "-o", options, str(disk)], check=True, capture_output=True, timeout=20
    )


def _is_full(connection: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        connection.execute("INSERT INTO filler SELECT repeat('x', 900) FROM generate_series(1, 99)")
    except psycopg.errors.DiskFull:
        return True
    return False
