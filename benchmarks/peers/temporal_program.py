"""Temporal at work: reads orders to do from its standard input, a JSON object a line, and answers alike.

The steps are activities that run in threads; the workflow undoes the first two where the third refuses.
The sandbox is off, which is faster.
"""

import asyncio
import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import uuid4

from psycopg_pool import ConnectionPool
from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

QUEUE = "bench"
ACTIVITIES = 16
LIMIT = timedelta(seconds=30)
#: Seconds until the server must be up.
PATIENCE = 60.0

pool = ConnectionPool(os.environ["BENCH_DATABASE_URL"], min_size=8, max_size=ACTIVITIES, open=True)


@activity.defn
def do(order_id: str, what: str, refused: bool) -> None:
    if refused:
        raise ApplicationError("over the limit", non_retryable=True)
    with pool.connection() as connection:
        connection.execute("INSERT INTO effect VALUES (%s, %s, %s)", (uuid4(), order_id, what))


@workflow.defn
class Order:
    @workflow.run
    async def run(self, order_id: str, refused: bool) -> None:
        await _do(order_id, "first")
        await _do(order_id, "second")
        try:
            await _do(order_id, "third", refused=refused)
        except ActivityError:
            await _do(order_id, "second undone")
            await _do(order_id, "first undone")


async def _do(order_id: str, what: str, *, refused: bool = False) -> None:
    await workflow.execute_activity(
        do, args=[order_id, what, refused], start_to_close_timeout=LIMIT
    )


async def _execute(client: Client, order_id: str, refused: bool) -> None:
    await client.execute_workflow(
        Order.run, args=[order_id, refused], id=order_id, task_queue=QUEUE
    )


async def _idle(client: Client, orders: list[str], refused: bool) -> list[float]:
    seconds = []
    for each in orders:
        began = time.perf_counter()
        await _execute(client, each, refused)
        seconds.append(time.perf_counter() - began)
    return seconds


async def _connected() -> Client:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            client = await Client.connect(os.environ["BENCH_TEMPORAL"])
            await client.count_workflows()  # the namespace is there
        except (RPCError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)
        else:
            return client


async def main() -> None:
    client = await _connected()
    worker = Worker(
        client,
        task_queue=QUEUE,
        workflows=[Order],
        activities=[do],
        activity_executor=ThreadPoolExecutor(ACTIVITIES),
        max_concurrent_activities=ACTIVITIES,
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        await _execute(client, str(uuid4()), True)  # the server is up when a workflow has ended
        _say({"ready": True})
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            if asked["idle"]:
                _say({"seconds": await _idle(client, asked["orders"], asked["refused"])})
            else:
                await asyncio.gather(
                    *(_execute(client, each, asked["refused"]) for each in asked["orders"])
                )
                _say({})
    pool.close()


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
