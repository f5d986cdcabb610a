"""What the tests of embedded servers look at, wait for and clean up."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg

from boundary.embedded import EmbeddedServers

# A process that uses the servers of the folder in argv until its stdin closes.
USER = """
import sys
from pathlib import Path
from boundary.embedded import EmbeddedServers
with EmbeddedServers(Path(sys.argv[1]), durable=False, valkey=sys.argv[2] == "both"):
    print("ready", flush=True)
    sys.stdin.read()
"""


def open_folder() -> Path:
    """A new folder that any user of the host can traverse; what pytest makes is closed."""
    folder = Path(tempfile.mkdtemp(prefix="saga-test-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    return folder


def kill_servers(folder: Path) -> None:
    """Leave no server of ``folder`` behind, whatever a failed test did."""
    found = EmbeddedServers(folder)
    for pid in (found.postgres_pid, found.valkey_pid):
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def remove(top: Path) -> None:
    for pid_file in [*top.rglob("postmaster.pid"), *top.rglob("valkey.pid")]:
        kill_servers(pid_file.parents[1])
    # A killed server's last processes may still be writing.

    def gone() -> bool:
        shutil.rmtree(top, ignore_errors=True)
        return not top.exists()

    eventually(gone)


def eventually(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Return as soon as ``condition`` holds; fail if it does not in ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.002)  # between two looks; nothing relies on its length


def await_ready(user: subprocess.Popen[str]) -> None:
    assert user.stdout is not None
    assert user.stdout.readline() == "ready\n"


def leave(user: subprocess.Popen[str]) -> None:
    with suppress(BrokenPipeError):
        assert user.stdin is not None
        user.stdin.close()
    assert user.wait() == 0


@contextmanager
def lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def urls(servers: EmbeddedServers) -> list[str]:
    return [servers.database_url, servers.redis_url]


def libpq(url: str) -> str:
    return url.replace("+psycopg", "")


def connect(servers: EmbeddedServers) -> psycopg.Connection:
    return psycopg.connect(libpq(servers.database_url), connect_timeout=5)


def row(connection: psycopg.Connection, query: str) -> tuple[object, ...] | None:
    return connection.execute(query).fetchone()


def show(connection: psycopg.Connection, setting: str) -> object:
    found = row(connection, f"SHOW {setting}")
    assert found is not None
    return found[0]


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))
