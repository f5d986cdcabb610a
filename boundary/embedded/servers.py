"""The servers of one directory, shared by every process that uses it.

Who uses them is counted by the kernel. A user holds a shared flock on ``users.lock`` for as long as
it uses the servers, so a killed one counts no longer, and the last one out is whoever gets that
lock exclusively. Every start and every stop happens as a whole under an exclusive flock on
``start.lock``, which settles the races:

- a start meets a stop: it waits until the servers are down, and launches them again;
- a stop meets a start: the starter already holds its shared lock when ``start.lock`` is free
  again, so the leaver is not the last one and leaves the servers alone;
- two leave at once: the second finds nobody left, and stops the servers;
- everybody is killed: servers stay up without users, the next start joins them, and with that
  they have a user whose leaving stops them.

The files of the two locks are never removed, for a lock on a removed file locks nobody out.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from boundary.embedded.host import Account, EmbeddedServersError, default_directory, make_private
from boundary.embedded.postgres import Postgres
from boundary.embedded.process import POLL_SECONDS, Record
from boundary.embedded.valkey import Valkey

# Longer than any start or stop takes that somebody else may be busy with.
_START_LOCK_SECONDS = 120.0


class EmbeddedServers:
    """A Postgres and a Valkey of our own, in ``directory``.

    ``directory`` defaults to ``.saga`` below the current folder, or, for root in a folder closed to
    other users, to a folder below the temp folder that stays the same for the current folder.
    ``durable=False`` trades Postgres' safety against a crash of the machine for speed.
    ``postgres=False`` or ``valkey=False`` leaves that server out.

    One object may be started and stopped any number of times, by one thread at a time. In a fork
    the servers count as used until both processes have stopped or ended.
    Raises EmbeddedServersError if the user is root and there is no account to run servers as.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        durable: bool = True,
        postgres: bool = True,
        valkey: bool = True,
    ) -> None:
        self._account = Account.of_servers()
        chosen = default_directory(self._account) if directory is None else directory
        # Resolved, as the path is part of what a running server is recognised by.
        self.directory = chosen.resolve()
        self.durable = durable
        self._postgres = Postgres(self.directory, self._account)
        self._valkey = Valkey(self.directory, self._account)
        self._wanted = (postgres, valkey)
        self._postgres_record: Record | None = None
        self._valkey_record: Record | None = None
        self._use: int | None = None

    def start(self) -> None:
        """Join the running servers and launch the missing ones; both answer on return.

        Calling it again is harmless and brings a server that died back, on its old port if that
        is still free. Raises EmbeddedServersError if a server cannot be launched or joined; then
        this object uses none.
        """
        try:
            make_private(self.directory)
            with self._start_lock():
                try:
                    self._enter()
                    self._open_directory()
                    if self._wanted[0]:
                        self._postgres_record = self._postgres.start(self.durable)
                    if self._wanted[1]:
                        self._valkey_record = self._valkey.start(self.durable)
                except BaseException:
                    with suppress(EmbeddedServersError):  # the first error is the one to tell
                        self._leave()
                    raise
        except (OSError, subprocess.SubprocessError) as error:
            raise EmbeddedServersError(
                f"The embedded servers in {self.directory} cannot be started: {error}"
            ) from error

    def stop(self) -> None:
        """Use the servers no longer; if nobody else does, stop them and wait until they are gone.

        Harmless if not started. Raises EmbeddedServersError if a server does not stop.
        """
        if self._use is None:
            return
        with self._start_lock():
            self._leave()

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the database. Raises EmbeddedServersError if not started."""
        return Postgres.url(_started(self._postgres_record, "Postgres"))

    @property
    def redis_url(self) -> str:
        """The Redis URL. Raises EmbeddedServersError if not started."""
        return Valkey.url(_started(self._valkey_record, "Valkey"))

    @property
    def postgres_pid(self) -> int | None:
        """The pid of this directory's running Postgres, whichever process launched it, or None."""
        return self._postgres.pid

    @property
    def valkey_pid(self) -> int | None:
        """The pid of this directory's running Valkey, whichever process launched it, or None."""
        return self._valkey.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _open_directory(self) -> None:
        if set(os.listdir(self.directory)) <= {"start.lock", "users.lock"}:
            # Just made. Under root the servers' account must be able to pass through; one that has
            # something in it keeps its mode.
            self.directory.chmod(0o700 if self._account.uid is None else 0o711)
            # By default we are inside somebody's project, and hold passwords.
            (self.directory / ".gitignore").write_text("*\n")
        if not self._account.enters(self.directory):
            raise EmbeddedServersError(
                f"{self.directory} is closed to the user the servers run as, who must be able to "
                "traverse it and the folders above it: use another directory."
            )

    @contextmanager
    def _start_lock(self) -> Iterator[None]:
        lock = self._open_lock("start.lock")
        try:
            deadline = time.monotonic() + _START_LOCK_SECONDS
            while not _lock(lock, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise EmbeddedServersError(
                        f"Another process has been starting or stopping the servers in "
                        f"{self.directory} for more than {_START_LOCK_SECONDS:.0f} s."
                    )
                time.sleep(POLL_SECONDS)
            yield
        finally:
            _release(lock)

    def _enter(self) -> None:
        if self._use is None:
            self._use = self._open_lock("users.lock")
            # Granted at once: exclusively it is only taken under the start lock.
            fcntl.flock(self._use, fcntl.LOCK_SH)

    def _leave(self) -> None:
        self._postgres_record = self._valkey_record = None
        if self._use is not None:
            # Closed, not unlocked: that would also end the use of a fork sharing the descriptor.
            os.close(self._use)
            self._use = None
        probe = self._open_lock("users.lock")
        try:
            if _lock(probe, fcntl.LOCK_EX):
                # Both, whatever we wanted: other users, gone now, may have wanted the other one.
                try:
                    self._valkey.stop()
                finally:
                    self._postgres.stop()
        finally:
            _release(probe)

    def _open_lock(self, name: str) -> int:
        return os.open(self.directory / name, os.O_RDWR | os.O_CREAT, 0o600)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _release(descriptor: int) -> None:
    # Unlocked as well as closed: a thread may have forked meanwhile, and the fork has a copy.
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


def _started(record: Record | None, server: str) -> Record:
    if record is None:
        raise EmbeddedServersError(f"{server} has no address: the servers are not started.")
    return record
