"""The page for Django is a transcript: what it says is saved and typed, in an empty folder."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_operating import alike, commands

from boundary.embedded import EmbeddedServers
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "django.md").read_text()


def blocks() -> Iterator[tuple[str, str]]:
    yield from re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


class Stranger:
    """Somebody who does what the page says."""

    def __init__(self, folder: Path, eventually: Callable[..., Any]) -> None:
        self._folder = folder
        self._eventually = eventually
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("SAGA_", "DJANGO_"))}
        here = str(Path(sys.executable).parent)
        self._environment = plain | {
            "PATH": f"{here}{os.pathsep}{plain['PATH']}",
            "COLUMNS": "300",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._worker: subprocess.Popen[bytes] | None = None

    def save(self, text: str) -> None:
        heading, _, rest = text.partition("\n")
        name, _, where = heading.removeprefix("# ").partition(", ")
        path = self._folder / name
        assert path.exists() or path.parent.exists()
        before = f"{path.read_text()}\n" if where == "at the end" else ""
        path.write_text(before + rest)

    def change(self, text: str) -> None:
        heading, old, new = text.splitlines()
        path = self._folder / heading.removeprefix("--- ")
        assert old[1:] in path.read_text()
        path.write_text(path.read_text().replace(old[1:], new[1:]))

    def type(self, command: str, printed: str) -> None:
        if command.startswith("pip "):
            return  # what the environment of this test has done already
        if command.startswith("export "):
            self._environment |= dict(word.split("=") for word in shlex.split(command)[1:])
        elif command == "kill -9 %1":
            self.stop(signal.SIGKILL)
        elif command == "kill %1":
            self.stop(signal.SIGTERM)
        elif command.endswith("&"):
            self._worker = subprocess.Popen(
                shlex.split(command.removesuffix("&")),
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        elif "saga list" in command:
            # It is told of what workers do meanwhile.
            self._eventually(lambda: self._says(command, printed), 90, f"{command}: {printed}")
        else:
            assert self._says(command, printed), f"{command}: {self._printed}"

    def stop(self, how: signal.Signals) -> None:
        if self._worker is not None:
            os.killpg(self._worker.pid, how)
            self._worker.wait(60)
            self._worker = None

    def _says(self, command: str, printed: str) -> bool:
        done = subprocess.run(
            shlex.split(command),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self._printed, ok = done.stderr + done.stdout, done.returncode == 0
        if alike(self._printed) != alike(printed):
            print(self._printed)  # noqa: T201 - shown when the test fails
            return "manage.py test" in command and "Ran 1 test" in self._printed and ok
        return ok


@pytest.mark.timeout(600)
def test_the_transcript_is_what_happens(
    tmp_path: Path, eventually: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    stranger = Stranger(tmp_path, eventually)
    with EmbeddedServers() as servers:  # kept running between the commands, which is faster
        try:
            for language, text in blocks():
                if language == "python":
                    stranger.save(text)
                elif language == "diff":
                    stranger.change(text)
                else:
                    for command, printed in commands(text):
                        stranger.type(command, printed)
        finally:
            stranger.stop(signal.SIGKILL)
    shutil.rmtree(servers.directory)
