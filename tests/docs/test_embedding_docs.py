"""The listing of docs/embedding.md is a program, which does what the page says."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from boundary import Settings
from tests.conftest import ROOT, worker_environment


def listing(page: str, name: str, folder: Path) -> None:
    """Save the listing that begins with the file's name."""
    text = (ROOT / "docs" / page).read_text()
    (found,) = re.findall(rf"^```python\n(# {re.escape(name)}\n.*?)^```$", text, re.DOTALL | re.M)
    (folder / name).write_text(found)


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("SAGA_")},
        **worker_environment(settings),
    }


@pytest.fixture
def started(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., None]]:
    """Start a command that is killed in the end."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        processes.append(process)

    yield start
    for process in processes:
        os.killpg(process.pid, 9)
        process.wait()


def run(environment: dict[str, str], folder: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PLACED = """
import warnings
warnings.simplefilter("ignore")
from fastapi.testclient import TestClient
from api import app
answer = TestClient(app).post("/orders", json={"number": "A-1"})
assert answer.status_code == 202 and answer.json()["saga"], answer.text
"""


def test_the_fastapi_listing(
    environment: dict[str, str], started: Any, eventually: Any, tmp_path: Path, outside: Any
) -> None:
    listing("embedding.md", "api.py", tmp_path)
    run(environment, tmp_path, PLACED)
    started("saga", "--app", "api:runtime", "worker", "--processes", "1")
    eventually(lambda: list(statuses(outside).values()) == ["completed"], 60)


def statuses(outside: psycopg.Connection[Any]) -> dict[str, str]:
    rows = outside.execute("SELECT coalesce(key, id::text), status FROM saga ORDER BY 1").fetchall()
    return dict(rows)
