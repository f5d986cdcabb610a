"""The unprivileged account the servers run as, and the folders of this host it can reach.

Postgres refuses to run as root, so under root the servers run as ``nobody``. Nothing on the host
is changed for that: no account is made and no existing folder's mode is touched.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

# What a server needs to run. The rest of our environment (secrets among it, and PG* settings meant
# for clients) has no business in a process of another account.
_PASSED_ON = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TZ")


class EmbeddedServersError(RuntimeError):
    """The embedded servers cannot be started, reached or stopped; the sentence says why."""


@dataclass(frozen=True)
class Account:
    """Who the servers run as: ``uid`` and ``gid`` are None when that is the current user."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def of_servers(cls) -> Account:
        """The current user, or ``nobody`` when that is root.

        Raises EmbeddedServersError if the user is root and the host has no ``nobody``.
        """
        if os.geteuid() != 0:
            return cls()
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            raise EmbeddedServersError(
                "Postgres does not run as root and this host has no user 'nobody' to run it as: "
                "use a normal user, or set SAGA_DATABASE_URL and SAGA_REDIS_URL."
            ) from None
        return cls(entry.pw_uid, entry.pw_gid)

    def launch(
        self, command: Sequence[str], output: IO[bytes] | int, held: Sequence[int] = ()
    ) -> subprocess.Popen[bytes]:
        """Start ``command`` as this account, in a session of its own, and return it at once.

        ``output`` takes both its streams; of our descriptors it gets those in ``held``, no others.
        """
        environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return subprocess.Popen(  # noqa: S603 - the commands are ours
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",  # ours may be closed to the account
            env=environment | {"LC_ALL": "C"},  # C: log lines we look for must not be translated
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            start_new_session=True,  # Ctrl-C in the terminal is for us, not for the servers
            pass_fds=held,
        )

    def runs(self, command: Sequence[str]) -> bool:
        """Whether this account can execute ``command`` and it succeeds."""
        try:
            return self.launch(command, subprocess.DEVNULL).wait() == 0
        except OSError:
            return False

    def enters(self, folder: Path) -> bool:
        """Whether this account can traverse the path down to ``folder``, which must exist."""
        return self.runs(["/bin/sh", "-c", 'cd "$1"', "sh", str(folder)])

    def own(self, path: Path) -> None:
        """Give ``path``, which we have just made, to this account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def default_directory(account: Account) -> Path:
    """Where servers live if nobody says: ``.saga`` here, or else a temp folder of this folder's.

    The second is for root in a folder closed to ``account``; it is the same one at every call.
    """
    here = Path.cwd()
    local = here / ".saga"
    if account.uid is None or account.enters(local if local.exists() else here):
        return local
    key = hashlib.sha256(os.fsencode(here)).hexdigest()[:12]
    return open_temp_folder(account) / f"saga-{os.geteuid()}-{key}"


def open_temp_folder(account: Account) -> Path:
    """A temp folder ``account`` can traverse. Raises EmbeddedServersError if there is none."""
    # What we make in there is checked to be ours.
    candidates = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108
    for folder in candidates:
        if folder.is_dir() and account.enters(folder):
            return folder.resolve()
    raise EmbeddedServersError(
        f"None of {', '.join(map(str, candidates))} is open to the user the servers run as."
    )


def make_private(folder: Path) -> None:
    """Make ``folder``, closed to others, unless it is there.

    Raises EmbeddedServersError if it is there but someone else could have put files into it, which
    in a shared temp folder must be expected.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
    if not ours or found.st_mode & stat.S_IWOTH:
        raise EmbeddedServersError(
            f"{folder} is not a folder of the current user that only they can write to."
        )


def write_private(path: Path, text: str, owner: Account) -> None:
    """Replace ``path`` atomically and durably by a file with ``text`` that only ``owner`` reads."""
    aside = path.with_name(f"{path.name}.new")
    aside.unlink(missing_ok=True)
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
    owner.own(aside)
    os.replace(aside, path)


def command_line(pid: int) -> str:
    """The arguments of a process joined by spaces; empty if it is gone or a zombie."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):
            return ""
    ps = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    found = subprocess.run(ps, capture_output=True, text=True, check=False)  # noqa: S603
    return found.stdout.strip()
