"""The travel agent in Flask: its demo, and its pages in a real browser against real processes."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from playwright.sync_api import Page

from tests.conftest import ROOT, Addresses

pytest_plugins = ["tests.browser"]

FLASK = [sys.executable, "-m", "flask", "--app", "examples.flask_travel.app"]


class Agent:
    """The agent on a database of its own, with a server and a worker running."""

    def __init__(self, servers: Addresses, folder: Path) -> None:
        self.name = f"saga_test_{uuid4().hex[:12]}"
        self._owner = servers.database_url.replace("+psycopg", "")
        with psycopg.connect(self._owner, autocommit=True) as owner:
            owner.execute(f"CREATE DATABASE {self.name} TEMPLATE template0")
        base, _, _ = servers.database_url.rpartition("/")
        self._log = (folder / "log").open("wb")
        self._processes: list[subprocess.Popen[bytes]] = []
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SAGA_", "FLASK_"))}
        self._environment = kept | {
            "FLASK_SQLALCHEMY_DATABASE_URI": f"{base}/{self.name}",
            "SAGA_REDIS_URL": servers.redis_url,
            "SAGA_NAMESPACE": self.name,
            "TRAVEL_BUG": str(folder / "bug"),
        }
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"

    def init(self) -> None:
        done = subprocess.run(
            [*FLASK, "init"], env=self._environment, cwd=ROOT, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def run(self, *arguments: str) -> None:
        self._processes.append(
            subprocess.Popen(
                [*FLASK, *arguments],
                env=self._environment,
                cwd=ROOT,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=30) as answer:
                return bool(answer.status == 200)
        except urllib.error.URLError:
            return False

    def left(self, destination: str) -> tuple[object, ...] | None:
        base, _, _ = self._owner.rpartition("/")
        with psycopg.connect(f"{base}/{self.name}") as tables:
            query = "SELECT seats, rooms FROM destination WHERE name = %s"
            return tables.execute(query, (destination,)).fetchone()

    def close(self) -> None:
        for process in self._processes:
            os.killpg(process.pid, 9)
            process.wait(60)
        self._log.close()
        print(Path(self._log.name).read_text())  # noqa: T201 - shown on failure
        with psycopg.connect(self._owner, autocommit=True) as owner:
            owner.execute(f"DROP DATABASE {self.name} WITH (FORCE)")


@pytest.fixture
def agent(servers: Addresses, tmp_path: Path, eventually: Callable[..., None]) -> Iterator[Agent]:
    made = Agent(servers, tmp_path)
    try:
        made.init()
        made.run("saga", "worker", "--processes", "1", "--threads", "2")
        made.run("run", "--port", str(made.port))
        eventually(made.answers, 60, "the agent to answer")
        yield made
    finally:
        made.close()


@pytest.mark.timeout(300)
def test_a_trip_is_booked_and_watched_to_its_end(agent: Agent, page: Page) -> None:
    page.goto(agent.url)
    page.select_option("[name=destination]", "Miami")
    page.click("text=Book")
    page.wait_for_selector("#status.completed")
    assert page.inner_text("#ticket").startswith("ETKT T-")
    assert agent.left("Miami") == (119, 39)
    page.click("text=Another trip")
    page.select_option("[name=destination]", "Boston")
    page.click("text=Book")
    page.wait_for_selector("#status.compensated")
    assert "no rooms left in Boston" in page.inner_text("#reason")
    assert page.inner_text("#steps").split() == ["flight", "undone", "hotel", "refused"]
    assert agent.left("Boston") == (60, 0)
    if folder := os.environ.get("SAGA_TEST_SHOTS"):  # to look at the page
        page.screenshot(path=f"{folder}/flask_trip.png")


@pytest.mark.timeout(300)
def test_the_demo_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.flask_travel.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "it held"
