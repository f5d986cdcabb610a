"""The operator's page is a transcript: its commands are run, and say what it says they do."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from boundary.settings import Settings
from tests.conftest import ROOT, worker_environment

PAGE = (ROOT / "docs" / "operating.md").read_text()

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: What is another one each time, and what stands for it.
_VARYING = (
    (_ID, "ID"),
    (re.compile(r"(?:\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d"), "TIME"),
    (re.compile(r"\d+(?:\.\d+)? (?:ms|s|min)(?: \d+ s)?"), "DURATION"),
    (re.compile(r"  +"), "  "),
)


def blocks() -> Iterator[tuple[str, str]]:
    """The page's listings, in order, with their languages."""
    yield from re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)


def commands(transcript: str) -> Iterator[tuple[str, str]]:
    """The commands of a transcript, each with what it printed."""
    for part in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, _, printed = part.partition("\n")
        yield command, printed


def alike(printed: str) -> list[str]:
    for pattern, word in _VARYING:
        printed = pattern.sub(word, printed)
    return [line.strip() for line in printed.strip().splitlines()]


class Desk:
    """Somebody who types what the page says."""

    def __init__(self, folder: Path, settings: Settings, eventually: Callable[..., Any]) -> None:
        self._folder = folder
        self._eventually = eventually
        self._environment = os.environ | worker_environment(settings)
        here = str(Path(sys.executable).parent)
        self._environment["PATH"] = f"{here}{os.pathsep}{self._environment['PATH']}"
        self._environment["COLUMNS"] = "300"  # a narrow terminal cuts what is long
        self._schema = settings.db_schema
        #: Ids of the page, and those that stand for them here.
        self._ids: dict[str, str] = {}
        self._worker: subprocess.Popen[bytes] | None = None

    def type(self, command: str, printed: str) -> None:
        if command.startswith("export "):
            self._environment |= dict(word.split("=") for word in shlex.split(command)[1:])
        elif command.endswith("&"):
            self.start_worker()
        elif command.split()[1] in {"list", "show", "parked"}:
            # It is told of what workers do meanwhile.
            self._eventually(lambda: self._says(command, printed), 60, f"{command}: {printed}")
        else:
            assert self._says(command, printed), f"{command}: {self._printed}"

    def start_worker(self) -> None:
        self.stop_worker()
        # Its code has changed within a second, perhaps, and to one of the same size.
        self._environment["PYTHONDONTWRITEBYTECODE"] = "1"
        self._worker = subprocess.Popen(
            ["saga", "worker", "--processes", "1"],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def stop_worker(self) -> None:
        if self._worker is not None:
            self._worker.terminate()
            assert self._worker.wait(60) == 0

    def _says(self, command: str, printed: str) -> bool:
        for theirs, ours in self._ids.items():
            command = command.replace(theirs, ours)
        done = subprocess.run(
            shlex.split(command),
            cwd=self._folder,
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self._printed = (done.stdout or done.stderr).replace(
            f"schema {self._schema}", "schema saga"
        )
        if alike(self._printed) != alike(printed):
            print(self._printed)  # noqa: T201 - shown when the test fails
            return False
        self._ids |= zip(_ID.findall(printed), _ID.findall(self._printed), strict=True)
        return True


@pytest.mark.timeout(300)
def test_the_transcript_is_what_happens(
    tmp_path: Path, settings: Settings, eventually: Callable[..., Any]
) -> None:
    program = tmp_path / "trips.py"
    desk = Desk(tmp_path, settings, eventually)
    try:
        for language, text in blocks():
            if language == "python":
                program.write_text(text)
            elif language == "diff":
                old, new = (line[1:] for line in text.splitlines())
                assert old in program.read_text()
                program.write_text(program.read_text().replace(old, new))
                desk.start_worker()
            else:
                for command, printed in commands(text):
                    desk.type(command, printed)
    finally:
        desk.stop_worker()
