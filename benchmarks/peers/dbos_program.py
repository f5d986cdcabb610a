"""DBOS at work: reads orders to do from its standard input, a JSON object a line, and answers alike.

In process with eight threads, as its documentation does it; idle over a queue that is polled every
20 ms.
"""

import json
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from dbos import DBOS
from psycopg_pool import ConnectionPool

THREADS = 8
QUEUE = "bench"

pool = ConnectionPool(os.environ["BENCH_DATABASE_URL"], min_size=THREADS, max_size=10, open=True)
ended: dict[str, threading.Event] = {}


class Refused(Exception):
    """The third step says no."""


def _insert(order_id: str, what: str) -> None:
    with pool.connection() as connection:
        connection.execute("INSERT INTO effect VALUES (%s, %s, %s)", (uuid4(), order_id, what))


@DBOS.step()
def do(order_id: str, what: str) -> None:
    _insert(order_id, what)


@DBOS.step()
def do_third(order_id: str, refused: bool) -> None:
    if refused:
        raise Refused
    _insert(order_id, "third")


@DBOS.workflow()
def order(order_id: str, refused: bool) -> None:
    do(order_id, "first")
    do(order_id, "second")
    try:
        do_third(order_id, refused)
    except Refused:
        do(order_id, "second undone")
        do(order_id, "first undone")


@DBOS.workflow()
def queued_order(order_id: str, refused: bool) -> None:
    order(order_id, refused)
    ended[order_id].set()


def busy(orders: list[str], refused: bool) -> None:
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(lambda each: order(each, refused), orders))


def idle(orders: list[str], refused: bool) -> list[float]:
    seconds = []
    for each in orders:
        ended[each] = threading.Event()
        began = time.perf_counter()
        DBOS.enqueue_workflow(QUEUE, queued_order, each, refused)
        ended[each].wait(30)
        seconds.append(time.perf_counter() - began)
    return seconds


def main() -> None:
    config: Any = {
        "name": "bench",
        "system_database_url": os.environ["BENCH_SYSTEM_URL"],
        "dbos_system_schema": os.environ["BENCH_SYSTEM_SCHEMA"],
        "log_level": "ERROR",
        "max_executor_threads": THREADS,
    }
    DBOS(config=config)
    DBOS.launch()
    DBOS.register_queue(QUEUE, polling_interval_sec=0.02)
    _say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["idle"]:
            _say({"seconds": idle(asked["orders"], asked["refused"])})
        else:
            busy(asked["orders"], asked["refused"])
            _say({})
    DBOS.destroy()
    pool.close()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
