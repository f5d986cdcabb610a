"""One server process of a directory: found again, launched, awaited, stopped.

Two things tell about a running server. Its *lock*: every server inherits an open description of
``NAME.lock`` on which we hold an exclusive flock, so the kernel frees it when the last process of
that server is gone, and no second server can be launched over the same files however its launcher
died. Its *pid*: read from the pid file and believed only if that process' command line is the one
we launch, so that a recycled pid is neither joined nor signalled.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from boundary.embedded.host import Account, EmbeddedServersError, command_line, write_private

READY_SECONDS = 30.0
POLL_SECONDS = 0.02
_PORT_ATTEMPTS = 5


@dataclass(frozen=True)
class Record:
    """What is kept about a server in ``NAME.json``: how to log in, and how it was launched."""

    password: str
    port: int = 0
    durable: bool = True
    #: Whom to log in as; what was made before this was kept has "saga".
    role: str = "saga"


class ServerProcess(ABC):
    """A server kept in ``directory`` and run as ``account``.

    Its methods are called under the directory's start lock, one process at a time. ``pid`` is not.
    """

    name: str
    role = "default"
    """Whom to log in as, where there is no record yet."""
    goodbyes: tuple[tuple[signal.Signals, float], ...]
    """The signals that stop it and the seconds to wait after each, mildest first."""

    def __init__(self, directory: Path, account: Account) -> None:
        self.directory = directory
        self.account = account
        self.log = directory / f"{self.name}.log"
        self._child: int | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the running server, or None."""
        try:
            pid = int(self.pid_file.read_text().split(maxsplit=1)[0])
        except (OSError, ValueError, IndexError):
            return None
        return pid if self.marker in command_line(pid) + " " else None

    def start(self, durable: bool) -> Record:
        """Join the running server or launch it; it answers when this returns its record.

        Raises EmbeddedServersError if it does not get that far, OSError if a file is in the way.
        """
        deadline = time.monotonic() + READY_SECONDS
        while True:
            if self.pid is not None:
                if (record := self._join(durable, deadline)) is not None:
                    return record
            else:
                with self._claim() as lock:
                    if lock is not None:
                        return self._launch(lock, durable)
            if time.monotonic() > deadline:
                raise EmbeddedServersError(
                    f"Processes of an earlier {self.name} in {self.directory} do not end."
                )
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        """Stop the server if it runs, and wait until all its processes are gone.

        Raises EmbeddedServersError if they outlive the last signal.
        """
        for farewell, patience in self.goodbyes:
            deadline = time.monotonic() + patience
            told: int | None = None
            while time.monotonic() < deadline:
                self._reap()
                pid = self.pid
                if pid is not None and pid != told:
                    with suppress(ProcessLookupError):
                        os.kill(pid, farewell)
                    told = pid
                elif pid is None:
                    with self._claim() as lock:
                        if lock is not None:
                            return
                time.sleep(POLL_SECONDS)
        raise EmbeddedServersError(f"{self.name} in {self.directory} does not stop. {self._tail()}")

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """Where the server writes its pid, first on the first line."""

    @property
    @abstractmethod
    def marker(self) -> str:
        """The part of the command line, arguments joined by a space, that only this server has."""

    @abstractmethod
    def prepare(self, record: Record, lock: int) -> None:
        """Make the server's files ready for a launch; helpers it runs inherit ``lock``."""

    @abstractmethod
    def configure(self, record: Record) -> list[str]:
        """Write what configures a launch with ``record`` and return the command."""

    @abstractmethod
    def greet(self, record: Record) -> str | None:
        """Log in for real. None if the server is ready, otherwise what it said."""

    def _join(self, durable: bool, deadline: float) -> Record | None:
        record = self._record()
        complaint: str | None = None
        while self.pid is not None:
            if record is not None and (complaint := self.greet(record)) is None:
                if durable and not record.durable:
                    raise EmbeddedServersError(
                        f"The {self.name} running in {self.directory} was started without "
                        "durability: stop the processes using it, or use another directory."
                    )
                return record
            if time.monotonic() > deadline:
                raise EmbeddedServersError(
                    f"{self.name} runs in {self.directory} but cannot be used: "
                    f"{complaint or 'its record is missing'}. {self._tail()}"
                )
            time.sleep(POLL_SECONDS)
        return None

    def _launch(self, lock: int, durable: bool) -> Record:
        record = self._record() or Record(password=secrets.token_hex(24), role=self.role)
        # The last port first: clients that outlived a crash find the server where they left it.
        port = record.port or _free_port()
        record = replace(record, port=port, durable=durable)
        # Saved before the launch: a server whose launcher is killed meanwhile can still be joined.
        self._save(record)
        self.prepare(record, lock)
        for _ in range(_PORT_ATTEMPTS):
            self.pid_file.unlink(missing_ok=True)  # stale, as we hold the lock
            if self._launched(record, lock):
                return record
            record = replace(record, port=_free_port())
            self._save(record)
        raise EmbeddedServersError(f"{self.name} found no free port. {self._tail()}")

    def _launched(self, record: Record, lock: int) -> bool:
        command = self.configure(record)
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        with os.fdopen(descriptor, "ab") as log:
            before = os.fstat(descriptor).st_size
            process = self.account.launch(command, log, held=[lock])
        try:
            ready = self._await(process, record, before)
        except BaseException:
            process.kill()
            process.wait()
            raise
        if ready:
            self._child = process.pid
            # The server may outlive us, and the pid file is what tells about it from here on;
            # this only keeps the object from complaining when it is dropped.
            process.returncode = 0
        return ready

    def _await(self, process: subprocess.Popen[bytes], record: Record, before: int) -> bool:
        # True when ready, False when the port was taken.
        deadline = time.monotonic() + READY_SECONDS
        complaint: str | None = None
        while time.monotonic() < deadline:
            if process.poll() is not None:
                with self.log.open("rb") as log:
                    log.seek(before)
                    if b"Address already in use" in log.read():
                        return False
                raise EmbeddedServersError(
                    f"{self.name} ended at once (exit code {process.returncode}). {self._tail()}"
                )
            if self.pid == process.pid and (complaint := self.greet(record)) is None:
                return True
            time.sleep(POLL_SECONDS)
        raise EmbeddedServersError(
            f"{self.name} did not answer in {READY_SECONDS:.0f} s ({complaint}). {self._tail()}"
        )

    def _reap(self) -> None:
        if self._child is not None:
            try:
                if os.waitpid(self._child, os.WNOHANG)[0]:
                    self._child = None
            except ChildProcessError:  # reaped by someone else, or we are a fork of its parent
                self._child = None

    @contextmanager
    def _claim(self) -> Iterator[int | None]:
        # Yields the locked descriptor, or None if a server holds it. Closing releases our copy
        # only: an explicit unlock would take the lock from the server that inherited it.
        self._reap()
        lock = os.open(self.directory / f"{self.name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            claimed: int | None = lock
        except BlockingIOError:
            claimed = None
        try:
            yield claimed
        finally:
            os.close(lock)

    def _record(self) -> Record | None:
        try:
            return Record(**json.loads((self.directory / f"{self.name}.json").read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _save(self, record: Record) -> None:
        write_private(self.directory / f"{self.name}.json", json.dumps(asdict(record)), Account())

    def _tail(self) -> str:
        try:
            lines = self.log.read_text(errors="replace").splitlines()[-8:]
        except OSError:
            lines = []
        return "\n".join([f"The last lines of {self.log}:", *lines])


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
