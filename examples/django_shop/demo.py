"""The story that operators live by, from nothing: an order, a bug, a stuck saga, a fix, a replay.

It runs the commands that a person would type, on embedded servers of its own, and looks into the
tables in between.  Exit code 0 only if all of it held.
"""

import json
import os
import sys
from pathlib import Path

from boundary.embedded import EmbeddedServers
from examples.story import Stage, must, say, tell

_MANAGE = Path(__file__).resolve().parent / "manage.py"

_PLACE = "from examples.django_shop.shop.views import place; print(place({article!r}, {quantity}))"


class Shop(Stage):
    """The shop's commands, and a look into its tables."""

    def __init__(self, servers: EmbeddedServers, bug: Path) -> None:
        ours = ("SAGA_", "SHOP_", "DJANGO_")
        environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)} | {
            "SHOP_DATABASE_URL": servers.database_url,
            "SHOP_REDIS_URL": servers.redis_url,
            "SHOP_BUG": str(bug),
            "SAGA_ACTOR": "ann",
        }
        super().__init__(environment, servers.database_url, "python manage.py", (str(_MANAGE),))

    def order(self, article: str, quantity: int) -> str:
        """Place an order and return its number."""
        code = _PLACE.format(article=article, quantity=quantity)
        number = self.run("shell", "-v", "0", "-c", code, show=False).split()[-1]
        say(f"ordered {quantity} x {article}: {number}")
        return number


def main() -> int:
    """Play the story and return the exit code."""
    return tell("django-shop", _open)


def _open(servers: EmbeddedServers, folder: Path) -> None:
    bug = folder / "the-till-has-a-bug"
    shop = Shop(servers, bug)
    try:
        _play(shop, bug)
    finally:
        shop.close()


def _play(shop: Shop, bug: Path) -> None:
    shop.run("migrate", "-v", "0")
    with shop.worker():
        good = shop.order("teapot", 2)
        shop.wait_for(good, "completed")

        say("a release with a bug in the till is deployed (a flag file stands for it)")
        bug.touch()
        stuck = [shop.order("lamp", quantity) for quantity in (1, 3)]
        for number in stuck:
            shop.wait_for(number, "stuck")
        shop.run("saga", "list", "--status", "stuck")
        must(shop.read("SELECT count(*) FROM shop_payment") == [(1,)], "nothing more was taken")
        must(_left(shop, "lamp") == 996, "the lamps are reserved")

        say("the fix is deployed (the flag file is removed)")
        bug.unlink()
        replay = ["saga", "replay", "--saga", "checkout", "--stuck"]
        replay += ["--reason", "the till is mended"]
        before = _everything(shop)
        shop.run(*replay, "--dry-run")
        must(_everything(shop) == before, "a dry run changes nothing")
        shop.run(*replay, "--yes")
        for number in stuck:
            shop.wait_for(number, "completed")
        shop.run("saga", "list")
        shop.run("saga", "trace", stuck[0])
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
    listed = json.loads(shop.run("saga", "list", "--json", show=False))
    must({saga["status"] for saga in listed} == {"completed"}, "every saga is completed")


def _left(shop: Shop, article: str) -> object:
    return shop.read('SELECT "left" FROM shop_stock WHERE article = %s', article)[0][0]


def _everything(shop: Shop) -> list[object]:
    tables = ("saga.saga", "saga.outbox", "saga.inbox", "saga.audit", "shop_payment")
    return [shop.read(f"SELECT t::text FROM {table} AS t ORDER BY 1") for table in tables]


if __name__ == "__main__":
    sys.exit(main())
