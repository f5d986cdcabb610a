"""The Django shop: its demo, and its pages in a real browser against real processes."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from playwright.sync_api import Page

from tests.conftest import ROOT, Addresses

pytest_plugins = ["tests.browser"]

MANAGE = ROOT / "examples" / "django_shop" / "manage.py"


class Shop:
    """A shop on a database of its own, with a server and a worker running."""

    def __init__(self, servers: Addresses, folder: Path) -> None:
        self.name = f"saga_test_{uuid4().hex[:12]}"
        self._owner = servers.database_url.replace("+psycopg", "")
        with psycopg.connect(self._owner, autocommit=True) as owner:
            owner.execute(f"CREATE DATABASE {self.name} TEMPLATE template0")
        base, _, _ = servers.database_url.rpartition("/")
        self.bug = folder / "bug"
        self._log = (folder / "log").open("wb")
        self._processes: list[subprocess.Popen[bytes]] = []
        self._environment = {
            k: v for k, v in os.environ.items() if not k.startswith(("SAGA_", "SHOP_", "DJANGO_"))
        } | {
            "SHOP_DATABASE_URL": f"{base}/{self.name}",
            "SHOP_REDIS_URL": servers.redis_url,
            "SHOP_NAMESPACE": self.name,
            "SHOP_BUG": str(self.bug),
            "DJANGO_SUPERUSER_PASSWORD": "ann",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._tables = psycopg.connect(f"{base}/{self.name}".replace("+psycopg", ""))
        self._tables.autocommit = True
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(MANAGE), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, *arguments: str) -> None:
        self._processes.append(
            subprocess.Popen(
                [sys.executable, str(MANAGE), *arguments],
                env=self._environment,
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

    def read(self, query: str) -> list[Any]:
        return self._tables.execute(query).fetchall()

    def close(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(60)
        self._log.close()
        self._tables.close()
        print(Path(self._log.name).read_text())  # noqa: T201 - shown on failure
        with psycopg.connect(self._owner, autocommit=True) as owner:
            owner.execute(f"DROP DATABASE {self.name} WITH (FORCE)")


@pytest.fixture
def shop(servers: Addresses, tmp_path: Path, eventually: Callable[..., Any]) -> Iterator[Shop]:
    made = Shop(servers, tmp_path)
    try:
        made.manage("migrate", "-v", "0")
        made.manage(
            *("createsuperuser", "--noinput", "--username", "ann", "--email", "ann@example.com")
        )
        made.run("saga", "worker", "--processes", "1", "--threads", "2")
        made.run("runserver", "--noreload", made.url.removeprefix("http://"))
        eventually(made.answers, 60, "the shop to answer")
        yield made
    finally:
        made.close()


def order(page: Page, shop: Shop, article: str, quantity: int) -> str:
    page.goto(shop.url)
    page.select_option("[name=article]", article)
    page.fill("[name=quantity]", str(quantity))
    page.click("text=Order")
    page.wait_for_selector("#status")
    return page.inner_text("h1").removeprefix("Order ")


@pytest.mark.timeout(300)
def test_an_order_is_placed_and_watched_to_its_end(shop: Shop, page: Page) -> None:
    number = order(page, shop, "teapot", 3)
    page.wait_for_selector("#status.completed")
    assert page.inner_text("#reason") == "On its way to you."
    assert shop.read("SELECT order_id, cents FROM shop_payment") == [(number, 3750)]
    order(page, shop, "lamp", 50)
    page.wait_for_selector("#status.compensated")
    assert "over the limit of the card" in page.inner_text("#reason")
    assert shop.read('SELECT article, "left" FROM shop_stock ORDER BY 1') == [
        ("kettle", 1000),
        ("lamp", 1000),
        ("teapot", 997),
    ]


@pytest.mark.timeout(300)
def test_a_stuck_order_is_replayed_by_mouse_with_a_reason(shop: Shop, page: Page) -> None:
    shop.bug.touch()
    number = order(page, shop, "kettle", 1)
    page.wait_for_selector("#status.stuck")
    watching = page.url
    shop.bug.unlink()  # the fix is deployed

    page.goto(f"{shop.url}/admin/")
    page.fill("[name=username]", "ann")
    page.fill("[name=password]", "ann")
    page.click("[type=submit]")
    page.click("text=Sagas >> nth=-1")
    page.click("#changelist-filter a:has-text('Stuck')")
    page.click(f"text={number}")
    assert "the till divides" in page.inner_text("#content")
    page.click("text=Replay…")
    page.fill("[name=reason]", "the till is mended")
    page.click("[name=preview]")
    assert "stuck → running; sends till.charge" in page.inner_text(".saga-preview")
    assert shop.read("SELECT count(*) FROM saga.audit") == [(0,)]
    page.click("input[value=Replay]")
    assert "replayed: stuck → running" in page.inner_text(".messagelist")
    page.goto(watching)
    page.wait_for_selector("#status.completed")
    assert shop.read("SELECT actor, act, reason FROM saga.audit") == [
        ("ann", "replayed", "the till is mended")
    ]
    assert shop.read("SELECT order_id FROM shop_payment") == [(number,)]


@pytest.mark.timeout(300)
def test_the_demo_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "examples.django_shop.demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "it held"
    assert "would be replayed 2, refused 0" in done.stdout


def test_the_readme_is_short() -> None:
    assert len(MANAGE.with_name("README.md").read_text().splitlines()) <= 15
