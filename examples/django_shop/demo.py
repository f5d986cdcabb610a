"""The story that operators live by, from nothing: an order, a bug, a stuck saga, a fix, a replay.

It runs the commands that a person would type, on embedded servers of its own, and looks into the
tables in between.  Exit code 0 only if all of it held.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psycopg

from boundary.embedded import EmbeddedServers
from examples.story import NotHeld, must, say, until

_MANAGE = Path(__file__).resolve().parent / "manage.py"

_PLACE = "from examples.django_shop.shop.views import place; print(place({article!r}, {quantity}))"


class Shop:
    """The shop's commands, and a look into its tables."""

    def __init__(self, environment: Mapping[str, str], url: str) -> None:
        self._environment = environment
        self._tables = psycopg.connect(url.replace("+psycopg", ""), autocommit=True)

    def manage(self, *arguments: str, show: bool = True) -> str:
        """Run a command of manage.py, print it with what it says, and return that."""
        if show:
            say(f"$ python manage.py {shlex.join(arguments)}")
        done = subprocess.run(
            [sys.executable, str(_MANAGE), *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise NotHeld(f"{shlex.join(arguments)} failed: {done.stderr.strip()}")
        if show:
            for line in (done.stderr + done.stdout).strip().splitlines():
                say(f"  {line.rstrip()}")
        return done.stdout

    def order(self, article: str, quantity: int) -> str:
        """Place an order and return its number."""
        code = _PLACE.format(article=article, quantity=quantity)
        number = self.manage("shell", "-v", "0", "-c", code, show=False).split()[-1]
        say(f"ordered {quantity} x {article}: {number}")
        return number

    def read(self, query: str, *parameters: object) -> list[tuple[object, ...]]:
        """Return rows of a query; what is not committed is not seen."""
        return self._tables.execute(query, parameters).fetchall()

    def wait_for(self, number: str, status: str) -> None:
        """Wait until an order's saga has a status."""
        query = "SELECT status FROM saga.saga WHERE key = %s"
        until(lambda: self.read(query, number) == [(status,)], f"{number} is {status}")

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run a worker, and stop it as a deploy does."""
        say("$ python manage.py saga worker --processes 1 &")
        worker = subprocess.Popen(
            [sys.executable, str(_MANAGE), "saga", "worker", "--processes", "1"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            worker.terminate()
            worker.wait()

    def close(self) -> None:
        """Close the connection."""
        self._tables.close()


def main() -> int:
    """Play the story and return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="django-shop-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    bug = folder / "the-till-has-a-bug"
    try:
        say("starting Postgres and Valkey")
        with EmbeddedServers(folder / "servers", durable=False) as servers:
            environment = {
                name: v
                for name, v in os.environ.items()
                if not name.startswith(("SAGA_", "SHOP_", "DJANGO_"))
            }
            environment |= {
                "SHOP_DATABASE_URL": servers.database_url,
                "SHOP_REDIS_URL": servers.redis_url,
                "SHOP_BUG": str(bug),
                "SAGA_ACTOR": "ann",
            }
            shop = Shop(environment, servers.database_url)
            try:
                _play(shop, bug)
            finally:
                shop.close()
    except NotHeld as error:
        say(f"NOT HELD: {error}")
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say("it held")
    return 0


def _play(shop: Shop, bug: Path) -> None:
    shop.manage("migrate", "-v", "0")
    with shop.worker():
        good = shop.order("teapot", 2)
        shop.wait_for(good, "completed")
        say(f"{good} is completed")

        say("a release with a bug in the till is deployed (a flag file stands for it)")
        bug.touch()
        stuck = [shop.order("lamp", quantity) for quantity in (1, 3)]
        for number in stuck:
            shop.wait_for(number, "stuck")
        shop.manage("saga", "list", "--status", "stuck")
        must(shop.read("SELECT count(*) FROM shop_payment") == [(1,)], "nothing more was taken")
        must(_left(shop, "lamp") == 996, "the lamps are reserved")

        say("the fix is deployed (the flag file is removed)")
        bug.unlink()
        replay = ["saga", "replay", "--saga", "checkout", "--stuck"]
        replay += ["--reason", "the till is mended"]
        before = _everything(shop)
        shop.manage(*replay, "--dry-run")
        must(_everything(shop) == before, "a dry run changes nothing")
        shop.manage(*replay, "--yes")
        for number in stuck:
            shop.wait_for(number, "completed")
        shop.manage("saga", "list")
        shop.manage("saga", "trace", stuck[0])
    _check(shop, [good, *stuck], stuck)


def _check(shop: Shop, orders: list[str], replayed: list[str]) -> None:
    rows = shop.read("SELECT number, shipped FROM shop_order")
    must(dict(rows) == dict.fromkeys(orders, True), "every order is shipped")  # type: ignore[arg-type]
    paid = shop.read("SELECT order_id, cents FROM shop_payment ORDER BY cents")
    must([cents for _, cents in paid] == [1250, 2500, 3750], "each is paid for once")
    must((_left(shop, "teapot"), _left(shop, "lamp")) == (998, 996), "goods left the shelf once")
    audit = shop.read("SELECT actor, act, reason FROM saga.audit")
    must(audit == [("ann", "replayed", "the till is mended")] * len(replayed), "it is audited")
    open_ = shop.read("SELECT count(*) FROM saga.inbox WHERE state IN ('pending', 'parked')")
    must(open_ == [(0,)], "nothing is pending or parked")
    listed = json.loads(shop.manage("saga", "list", "--json", show=False))
    must({saga["status"] for saga in listed} == {"completed"}, "every saga is completed")


def _left(shop: Shop, article: str) -> object:
    return shop.read('SELECT "left" FROM shop_stock WHERE article = %s', article)[0][0]


def _everything(shop: Shop) -> list[object]:
    tables = ("saga.saga", "saga.outbox", "saga.inbox", "saga.audit", "shop_payment")
    return [shop.read(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]


if __name__ == "__main__":
    sys.exit(main())
