"""What a delivery costs, as a count: a regression fails here on any machine, however slow.

What is counted is what libpq sends: whatever path a statement takes to it, nothing escapes.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from psycopg.pq import Trace
from sqlalchemy import Engine, event

from benchmarks.workload import ORDER, Order, build_runtime, metadata
from boundary import Runtime, Settings
from internals.ids import uuid7

SAGAS = 50
FEWER = 10

SAGA = "saga.order"
#: Who gets what, in order.  In the second case two of three steps are undone.
DONE = ("first", SAGA, "second", SAGA, "third", SAGA)
UNDONE = (*DONE, "second", SAGA, "first", SAGA)

#: Round trips of a hop, at most: it begins, claims, releases the last savepoint, writes and commits.
HOP = 5
#: And of each handler: its savepoint, and its own insert or the savepoint's undoing.
HANDLER = 2


class Wire:
    """What one engine sends to the server."""

    def __init__(self, engine: Engine, log: Path) -> None:
        self._log = log.open("w+b", buffering=0)
        self._read = 0
        event.listen(engine, "connect", self._trace)

    def take(self) -> tuple[int, int]:
        """Return the commits and the round trips since the last call."""
        self._log.seek(self._read)
        sent = self._log.read().decode()
        self._read = self._log.tell()
        commits = re.findall(r'^F\s+\d+\s+Query\s+"COMMIT"', sent, re.MULTILINE)
        trips = re.findall(r"^F\s+\d+\s+(?:Query|Sync)\b", sent, re.MULTILINE)
        return len(commits), len(trips)

    def close(self) -> None:
        self._log.close()

    def _trace(self, driver: Any, _: object) -> None:
        driver.pgconn.trace(self._log.fileno())
        driver.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)


Start = Callable[..., None]


@pytest.fixture
def bench(settings: Settings) -> Iterator[Runtime]:
    """The workload on this test's schema; however slow the machine, a batch is not cut short."""
    runtime = build_runtime(settings.model_copy(update={"budget": 60.0}))
    with runtime.engine.begin() as connection:
        metadata.create_all(connection)
    yield runtime
    runtime.close()


@pytest.fixture
def start(settings: Settings) -> Iterator[Start]:
    """Start so many sagas, on connections that are not counted."""
    starter = build_runtime(settings)

    def start(count: int, refused: bool = False) -> None:
        orders = [Order(order_id=uuid7(), refused=refused) for _ in range(count)]
        with starter.engine.begin() as connection:
            starter.start_many(connection, ORDER, orders)

    yield start
    starter.close()


@pytest.fixture
def wire(bench: Runtime, start: Start, tmp_path: Path) -> Iterator[Wire]:
    """What the hops send, on a connection that has prepared its statements."""
    bench.engine.dispose()
    wire = Wire(bench.engine, tmp_path / "wire")
    for _ in range(FEWER):
        start(1)
        for consumer in DONE:
            bench.answer(consumer)
    start(4 * SAGAS)  # a process begins with small batches, and knows by now that it need not
    for consumer in DONE:
        bench.answer(consumer)
    wire.take()
    yield wire
    wire.close()


@pytest.mark.parametrize(("refused", "consumers"), [(False, DONE), (True, UNDONE)])
def test_an_idle_delivery_costs_one_commit(
    bench: Runtime, start: Start, wire: Wire, refused: bool, consumers: tuple[str, ...]
) -> None:
    for _ in range(SAGAS):
        start(1, refused)
        for consumer in consumers:
            assert bench.answer(consumer) == 1
    commits, _ = wire.take()
    assert commits == SAGAS * len(consumers)


@pytest.mark.parametrize(("refused", "consumers"), [(False, DONE), (True, UNDONE)])
def test_a_batch_of_deliveries_costs_one_commit(
    bench: Runtime, start: Start, wire: Wire, refused: bool, consumers: tuple[str, ...]
) -> None:
    start(SAGAS, refused)
    for consumer in consumers:
        assert bench.answer(consumer) == SAGAS
    commits, _ = wire.take()
    assert commits == len(consumers)


def test_a_doorbell_for_nothing_costs_a_commit_and_no_more(bench: Runtime, wire: Wire) -> None:
    for consumer in set(DONE):
        assert bench.answer(consumer) == 0
        commits, trips = wire.take()
        assert (commits, trips) == (1, 3)


@pytest.mark.parametrize("count", [1, FEWER, SAGAS])
def test_a_hop_costs_as_many_round_trips_whatever_the_batch(
    bench: Runtime, start: Start, wire: Wire, count: int
) -> None:
    start(count)
    for consumer in DONE:
        assert bench.answer(consumer) == count
        _, trips = wire.take()
        handlers = 0 if consumer == SAGA else count * HANDLER
        assert trips - handlers <= HOP
