"""Processes die, Redis forgets, Postgres restarts; every order still ends, and exactly once."""

import os
import random
import signal
from typing import Any

import pytest
import redis

from boundary.embedded import EmbeddedServers
from tests.scenarios.app import DECLINED, DELIVERED, UNDELIVERABLE, Order

#: Booting processes takes its time on a busy machine.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def dice() -> random.Random:
    """Chance, with a seed that is printed so that a run can be repeated."""
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - shown when a test fails
    return random.Random(seed)


def mixed_orders(dice: random.Random, count: int) -> tuple[list[Order], dict[int, tuple[str, ...]]]:
    """Orders of every kind, and what the ledger is to hold for each in the end."""
    orders, expected = [], {}
    for number in range(1, count + 1):
        kind = dice.choice(["delivered", "delivered", "declined", "undeliverable"])
        orders.append(
            Order(
                number=number,
                card="declined" if kind == "declined" else "good",
                address="unknown" if kind == "undeliverable" else "Main Street",
            )
        )
        expected[number] = {
            "delivered": DELIVERED,
            "declined": DECLINED,
            "undeliverable": UNDELIVERABLE,
        }[kind]
    return orders, expected


def test_workers_are_killed_again_and_again(shop: Any, dice: random.Random) -> None:
    orders, expected = mixed_orders(dice, 200)
    shop.place(*orders)
    kills = 0
    while shop.under_way() and kills < 6:
        worker = shop.start_worker(SAGA_BATCH="4")
        goal = shop.count("outbox") + dice.randint(60, 250)
        shop.wait_until(
            lambda goal=goal: shop.count("outbox") >= goal or not shop.under_way(),
            "the worker to get on",
        )
        if shop.under_way():
            kills += 1
        worker.kill()
    shop.start_worker()
    shop.wait_until_over()
    assert kills >= 3
    shop.check_books(expected)


def test_redis_forgets_everything_again_and_again(
    own_shop: Any, own_servers: EmbeddedServers, dice: random.Random
) -> None:
    orders, expected = mixed_orders(dice, 100)
    wipes = 0
    own_shop.start_worker(SAGA_BATCH="2")
    with redis.Redis.from_url(own_servers.redis_url) as client:
        for part in range(10):
            own_shop.place(*orders[part * 10 : part * 10 + 10])
            client.flushall()  # very likely before the doorbells of these were heard
            goal = own_shop.over() + 5
            own_shop.wait_until(
                lambda goal=goal: own_shop.over() >= goal or not own_shop.under_way(),
                "orders to be over although their doorbells are lost",
            )
            wipes += own_shop.under_way() > 0
            client.flushall()
    own_shop.wait_until_over()
    assert wipes > 0
    own_shop.check_books(expected)


def test_redis_is_gone_and_work_goes_on(own_shop: Any, own_servers: EmbeddedServers) -> None:
    own_shop.start_worker()
    own_shop.place(Order(number=1))
    own_shop.wait_until_over()  # the worker is up

    pid = own_servers.valkey_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    own_shop.place(Order(number=2), Order(number=3, card="declined"))
    own_shop.wait_until_over()
    own_shop.check_books({1: DELIVERED, 2: DELIVERED, 3: DECLINED})

    own_servers.start()  # it comes back, on its old port
    own_shop.place(Order(number=4))
    own_shop.wait_until_over()
    assert own_shop.statuses() == {"completed": 3, "compensated": 1}


def test_postgres_is_killed_in_the_middle_of_work(
    durable_shop: Any, durable_servers: EmbeddedServers, dice: random.Random
) -> None:
    orders, expected = mixed_orders(dice, 100)
    durable_shop.start_worker(SAGA_BATCH="2")
    durable_shop.place(*orders)
    struck = 0
    for _ in range(2):
        goal = durable_shop.over() + 10
        durable_shop.wait_until(
            lambda goal=goal: durable_shop.over() >= goal, "the worker to get on"
        )
        struck += durable_shop.under_way() > 0
        pid = durable_servers.postgres_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        durable_servers.start()
    durable_shop.wait_until_over()
    assert struck > 0
    durable_shop.check_books(expected)


def test_a_worker_that_is_up_before_postgres_begins_when_it_is_there(
    durable_shop: Any, durable_servers: EmbeddedServers, eventually: Any
) -> None:
    durable_shop.place(Order(number=1))
    pid = durable_servers.postgres_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    worker = durable_shop.start_worker()
    eventually(lambda: "not subscribed yet" in worker.log())
    assert worker.running
    durable_servers.start()
    durable_shop.wait_until_over()
    durable_shop.check_books({1: DELIVERED})
