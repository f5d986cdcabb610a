"""Story: how a demo of a web application plays one: its servers, its commands, what must hold."""

import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from boundary.embedded import EmbeddedServers

_ROOT = Path(__file__).resolve().parents[1]

#: Seconds that anything may take.
_PATIENCE = 60.0


class NotHeld(Exception):
    """Something is not as the story has it."""


class Stage:
    """An application's commands, and a look into its tables.

    Args:
        environment: Of its processes.
        url: Of its database.
        program: What its commands begin with, as a person types it.
        command: The same, as it is run.
    """

    def __init__(
        self, environment: Mapping[str, str], url: str, program: str, command: Sequence[str]
    ) -> None:
        self._environment = environment
        self._program = program
        self._command = command
        self._tables = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def run(self, *arguments: str, show: bool = True) -> str:
        """Run a command of the application, print it with what it says, and return that."""
        if show:
            say(f"$ {self._program} {shlex.join(arguments)}")
        done = self.python(*self._command, *arguments)
        if show:
            for line in (done.stderr + done.stdout).strip().splitlines():
                say(f"  {line.rstrip()}")
        return done.stdout

    def python(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run Python; raises `NotHeld` if it fails."""
        done = subprocess.run(  # noqa: S603 - our own command
            [sys.executable, *arguments],
            env=self._environment,
            cwd=_ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotHeld(f"{shlex.join(arguments)} failed: {done.stderr.strip()}")
        return done

    def read(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Return rows of a query; what is not committed is not seen."""
        return self._tables.execute(query, parameters).fetchall()

    def wait_for(self, key: str, status: str) -> None:
        """Wait until the saga of a business key has a status."""
        query = "SELECT status FROM saga.saga WHERE key = %s"
        deadline = time.monotonic() + _PATIENCE
        while self.read(query, key) != [(status,)]:
            if time.monotonic() > deadline:
                raise NotHeld(f"{key} is {status}")
            time.sleep(0.05)
        say(f"{key} is {status}")

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker, and stop it as a deploy does."""
        say(f"$ {self._program} saga worker --processes 1 &")
        worker = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, *self._command, "saga", "worker", "--processes", "1"],
            env=self._environment,
            cwd=_ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            worker.terminate()
            worker.wait()

    def close(self) -> None:
        """Close the connection."""
        self._tables.close()


def tell(name: str, play: Callable[[EmbeddedServers, Path], None]) -> int:
    """Play a story on embedded servers of its own and return the exit code.

    `play` is given the servers and a folder; it raises `NotHeld` where something does not hold.
    """
    # Sockets have short names: not below a long TMPDIR.
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    try:
        say("starting Postgres and Valkey")
        with EmbeddedServers(folder / "servers", durable=False) as servers:
            play(servers, folder)
    except NotHeld as error:
        say(f"NOT HELD: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("it held")
    return 0


def must(held: bool, what: str) -> None:
    """Say what holds; raises `NotHeld` if it does not."""
    if not held:
        raise NotHeld(what)
    say(f"✓ {what}")


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)  # noqa: T201 - a demo talks
