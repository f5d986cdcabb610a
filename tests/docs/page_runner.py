"""A stranger, who does what a page says: saves its listings and types its commands."""

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tests.docs.test_operating import alike, commands


class Stranger:
    """Somebody who does what the page says."""

    def __init__(self, folder: Path, bin: Path, eventually: Callable[..., Any]) -> None:
        self._folder = folder
        self._eventually = eventually
        foreign = ("SAGA_", "DJANGO_", "FLASK_", "PYTHON")
        plain = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self._environment = plain | {
            "PATH": f"{bin}{os.pathsep}{plain['PATH']}",
            "COLUMNS": "300",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        #: What runs in the background; `%1` is the first of them.
        self._jobs: list[subprocess.Popen[bytes]] = []

    def knows(self, **environment: str) -> None:
        """What the page leaves to the reader, such as where the servers are."""
        self._environment |= environment

    def follow(self, page: Path) -> None:
        """Do all that a page says, in its order; fails where it is not so."""
        try:
            for language, text in re.findall(r"```(\w+)\n(.*?)```", page.read_text(), re.DOTALL):
                if language == "python":
                    self.save(text)
                elif language == "diff":
                    self.change(text)
                else:
                    for command, printed in commands(text):
                        self.type(command, printed)
        finally:
            self.stop(signal.SIGKILL)

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
            job = subprocess.Popen(
                shlex.split(command.removesuffix("&")),
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._jobs.append(job)
        elif "saga list" in command:
            # It is told of what workers do meanwhile.
            self._eventually(lambda: self._says(command, printed), 90, f"{command}: {printed}")
        else:
            assert self._says(command, printed), f"{command}: {self._printed}"

    def stop(self, how: signal.Signals) -> None:
        while self._jobs:
            job = self._jobs.pop()
            os.killpg(job.pid, how)
            job.wait(60)
            # Its children too: whoever still uses the servers keeps them from being stopped.
            self._eventually(partial(_has_ended, job.pid), 60, f"the end of {job.args!r}")

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


def _has_ended(group: int) -> bool:
    """Whether a process group has no process any more."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False
