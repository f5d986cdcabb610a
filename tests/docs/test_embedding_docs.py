"""The listings of docs/flask.md and docs/embedding.md are programs, which do what the pages say."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import make_url

from boundary import Settings
from tests.conftest import ROOT, worker_environment


def listing(page: str, name: str, folder: Path) -> None:
    """Save the listing that begins with the file's name."""
    text = (ROOT / "docs" / page).read_text()
    (found,) = re.findall(rf"^```python\n(# {re.escape(name)}\n.*?)^```$", text, re.DOTALL | re.M)
    (folder / name).write_text(found)


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    assert settings.database_url is not None
    url = make_url(settings.database_url.get_secret_value())
    url = url.update_query_dict({"options": f"-csearch_path={settings.db_schema}"})
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith("SAGA_")},
        **worker_environment(settings),
        "FLASK_SQLALCHEMY_DATABASE_URI": url.render_as_string(hide_password=False),
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


ORDERS = """
from shop import create_app, db
app = create_app()
with app.app_context():
    db.create_all()
client = app.test_client()
for number, cents in (("A-1", 1200), ("A-2", 990000)):
    assert client.post("/orders", json={"number": number, "cents": cents}).status_code == 201
"""

PLACED = """
import warnings
warnings.simplefilter("ignore")
from fastapi.testclient import TestClient
from api import app
answer = TestClient(app).post("/orders", json={"number": "A-1"})
assert answer.status_code == 202 and answer.json()["saga"], answer.text
"""


def test_the_flask_page(
    environment: dict[str, str], started: Any, eventually: Any, tmp_path: Path, outside: Any
) -> None:
    listing("flask.md", "shop.py", tmp_path)
    run(environment, tmp_path, ORDERS)
    started("flask", "--app", "shop", "saga", "worker", "--processes", "1")
    eventually(lambda: statuses(outside) == {"A-1": "completed", "A-2": "compensated"}, 60)
    paid = outside.execute('SELECT number, paid FROM "order" ORDER BY 1').fetchall()
    assert paid == [("A-1", True), ("A-2", False)]


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
