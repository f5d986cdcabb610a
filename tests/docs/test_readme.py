"""The README is a program: its listing is saved, and its commands are run, as a stranger would."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from boundary.settings import Settings
from tests.conftest import ROOT, worker_environment

README = (ROOT / "README.md").read_text()


def listing(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(next(block for block in blocks if containing in block))


def commands() -> list[str]:
    lines = listing("sh", "saga worker").splitlines()
    return [line.split("  #")[0].strip() for line in lines]


def test_the_saga_fits_on_a_page() -> None:
    assert listing("python", "CHECKOUT = Saga").count("\n") <= 40


def test_the_commands_do_what_the_readme_says(
    tmp_path: Path, settings: Settings, eventually: Callable[..., Any]
) -> None:
    (tmp_path / "checkout.py").write_text(listing("python", "CHECKOUT = Saga"))
    environment = os.environ | worker_environment(settings)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"

    def run(line: str) -> str:
        done = subprocess.run(
            shlex.split(line),
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{line}: {done.stderr}"
        return done.stdout

    def over() -> bool:
        return "1 completed" in (found := run("saga list")) and "1 compensated" in found

    lines = commands()
    assert lines.pop(0).startswith("pip install"), "what `make venv` has done already"
    variable, _, value = lines.pop(0).removeprefix("export ").partition("=")
    environment[variable] = value
    assert run(lines.pop(0)) == f"schema {settings.db_schema} is up to date\n"
    assert lines.pop(0) == "saga worker &"
    worker = subprocess.Popen(
        ["saga", "worker"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert run(lines.pop(0)).strip()
        assert run(lines.pop(0)).strip()
        eventually(over, 60, "one order completed and one compensated")
        run(lines.pop(0))
        tree = run(lines.pop(0))
        assert "rejected: over the limit of the card" in tree
        assert "↩ stock.release" in tree
        assert not lines, "every command of the README was run"
    finally:
        worker.terminate()
        assert worker.wait(30) == 0


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"^make ([a-z-]+)", README, re.MULTILINE)))
)
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
