"""The bank has a Postgres of its own; either server goes away for a while, and nothing is lost."""

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from boundary import Settings
from boundary.embedded import EmbeddedServers
from tests.scenarios import app
from tests.scenarios.app import DECLINED, DELIVERED, SOLD_OUT, Order
from tests.scenarios.conftest import Shop

#: Booting processes takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)


class BankedShop(Shop):
    """The shop, whose payments are made at a bank with a database of its own."""

    worker = "banked_worker"

    def __init__(self, home: EmbeddedServers, bank: EmbeddedServers, *works: Any) -> None:
        self.home, self.bank = home, bank
        self._bank_url = bank.database_url
        settings = Settings(
            database_url=SecretStr(home.database_url),
            redis_url=SecretStr(home.redis_url),
            databases={"bank": SecretStr(bank.database_url)},
        )
        super().__init__(settings, *works)
        self.runtime.migrate()
        app.create_tables(self.runtime.own_engines["bank"], settings)

    def start_worker(self, *arguments: Any, **options: Any) -> Any:
        own: dict[str, Any] = {"SAGA_DATABASES": json.dumps({"bank": self._bank_url})}
        return super().start_worker(*arguments, **(own | options))

    @contextmanager
    def at_the_bank(self) -> Iterator[psycopg.Connection[Any]]:
        """A connection to the bank's database."""
        url = self._bank_url.replace("+psycopg", "")
        options = f"-c search_path={self.settings.db_schema}"
        with psycopg.connect(url, autocommit=True, options=options) as connection:
            yield connection

    def ask_bank(self, query: str) -> int:
        """Return the number that a query of the bank's database gives."""
        with self.at_the_bank() as connection:
            [(found,)] = connection.execute(query).fetchall()
            return int(found)

    def check_books(self, expected: dict[int, tuple[str, ...]]) -> None:
        """Each order's effects are there once, each in the database where it belongs."""
        found: dict[int, list[str]] = {number: [] for number in expected}
        with self.at_the_bank() as connection:
            paid = connection.execute("SELECT number, what FROM ledger").fetchall()
            left = connection.execute("SELECT count(*) FROM inbox WHERE state <> 'done'")
            assert left.fetchall() == [(0,)]
        assert {what for _, what in paid} <= {"charged", "refunded"}
        for number, what in [*paid, *self.query("SELECT number, what FROM ledger")]:
            found[number].append(what)
        wrong = {n: got for n, got in found.items() if sorted(got) != sorted(expected[n])}
        assert wrong == {}
        assert self.count("inbox", "state <> 'done'") == 0
        self.check_history()

    def kill(self, servers: EmbeddedServers) -> None:
        """Kill a Postgres; `start` of its servers brings it back."""
        assert servers.postgres_pid is not None
        os.kill(servers.postgres_pid, signal.SIGKILL)


@pytest.fixture
def shop(
    durable_servers: EmbeddedServers,
    durable_postgres: EmbeddedServers,
    start_group: Callable[..., Any],
    eventually: Callable[..., Any],
) -> Iterator[BankedShop]:
    opened = BankedShop(durable_servers, durable_postgres, start_group, eventually)
    yield opened
    opened.close()


def mixed(dice: random.Random, numbers: range) -> tuple[list[Order], dict[int, tuple[str, ...]]]:
    """Orders, and what the two ledgers are to hold for each in the end."""
    cards = {number: dice.choice(["good", "good", "declined"]) for number in numbers}
    orders = [Order(number=number, card=card) for number, card in cards.items()]
    return orders, {n: DELIVERED if card == "good" else DECLINED for n, card in cards.items()}


def test_the_bank_is_down_for_a_while(shop: BankedShop) -> None:
    dice = random.Random(7)
    before, expected = mixed(dice, range(1, 41))
    during, more = mixed(dice, range(41, 61))
    shop.place(*before)
    worker = shop.start_worker(SAGA_BATCH="2")
    shop.wait_until(lambda: shop.over() >= 5, "the worker to get on")
    shop.kill(shop.bank)
    shop.place(*during)
    shop.place(Order(number=-1))  # is sold out, and never comes to be paid
    shop.wait_until(
        lambda: shop.count("ledger", "what = 'planned'") == 60, "what is at home to go on"
    )
    waiting = "consumer = 'payments' AND state = 'pending' AND outcome = 'not_forwarded'"
    shop.wait_until(lambda: shop.count("inbox", waiting), "payments to say why they wait")
    assert worker.running
    assert shop.under_way() > 0
    shop.bank.start()
    shop.wait_until_over()
    assert shop.statuses()["stuck"] == 0
    shop.check_books(expected | more | {-1: SOLD_OUT})


def test_home_is_down_for_a_while(shop: BankedShop) -> None:
    orders, expected = mixed(random.Random(8), range(1, 31))
    worker = shop.start_worker(threads=6)
    with shop.at_the_bank() as connection, connection.transaction():
        connection.execute("LOCK TABLE ledger")  # nobody can pay
        shop.place(*orders)
        forwarded = "consumer = 'payments' AND wait_reason = 'forwarded'"
        shop.wait_until(lambda: shop.count("inbox", forwarded) >= 5, "some to be forwarded")
        shop.kill(shop.home)
    of_payments = "SELECT count(*) FROM inbox WHERE consumer = 'payments' AND state = "
    shop.wait_until(lambda: not shop.ask_bank(f"{of_payments} 'pending'"), "the bank to go on")
    assert shop.ask_bank(f"{of_payments} 'done'") >= 5
    parcels = "SELECT count(*) FROM inbox WHERE consumer = 'payments.parcels' AND state = 'pending'"
    assert shop.ask_bank(parcels) >= 5
    assert worker.running
    shop.home.start()
    shop.wait_until_over()
    shop.wait_until(lambda: not shop.ask_bank(parcels), "the bank to know that home knows")
    shop.check_books(expected)
