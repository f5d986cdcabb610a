"""Plain Dramatiq: an actor and a queue for each step, which keep no state at all.

Run by the `dramatiq` command; the servers are in the environment.
"""

import os
from uuid import uuid4

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from psycopg_pool import ConnectionPool

broker = RedisBroker(  # type: ignore[no-untyped-call]
    url=os.environ["BENCH_REDIS_URL"], namespace=os.environ["BENCH_NAMESPACE"]
)
dramatiq.set_broker(broker)
pool = ConnectionPool(os.environ["BENCH_DATABASE_URL"], min_size=1, max_size=10, open=False)


@dramatiq.actor(queue_name="first")
def do_first(order_id: str, refused: bool) -> None:
    _insert(order_id, "first")
    do_second.send(order_id, refused)


@dramatiq.actor(queue_name="second")
def do_second(order_id: str, refused: bool) -> None:
    _insert(order_id, "second")
    do_third.send(order_id, refused)


@dramatiq.actor(queue_name="third")
def do_third(order_id: str, refused: bool) -> None:
    if refused:
        undo_second.send(order_id)
    else:
        _insert(order_id, "third")


@dramatiq.actor(queue_name="second")
def undo_second(order_id: str) -> None:
    _insert(order_id, "second undone")
    undo_first.send(order_id)


@dramatiq.actor(queue_name="first")
def undo_first(order_id: str) -> None:
    _insert(order_id, "first undone")


def _insert(order_id: str, what: str) -> None:
    pool.open()  # once; a pool does not survive a fork
    with pool.connection() as connection:
        connection.execute("INSERT INTO effect VALUES (%s, %s, %s)", (uuid4(), order_id, what))
