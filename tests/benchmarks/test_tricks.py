"""What is measured is the trick: without it sagas end the same, and do what it saves."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg.pq import Trace
from sqlalchemy import event, text

from benchmarks import tricks
from benchmarks.known_tricks import TRICKS
from benchmarks.measuring import Size
from benchmarks.peers.peer import Ledger, database_url
from benchmarks.servers import _environment
from benchmarks.tricks import Compared
from benchmarks.workload import Order, build_runtime, metadata
from boundary import Runtime, Settings
from boundary.doorbell.host_broker import StockDoorbells
from internals.hop import hop
from internals.hop.coalescing import Coalescing
from internals.ids import uuid7

SAGAS = 6

Make = Callable[..., Runtime]


@pytest.fixture
def make(settings: Settings) -> Iterator[Make]:
    """Make the runtime of a trick's load on this test's schema, with the trick or without it."""
    with ExitStack() as stack:

        def make(name: str, *, off: bool = True) -> Runtime:
            trick = TRICKS[name]
            patches = stack.enter_context(ExitStack())
            patches.enter_context(trick.under())
            if off:
                patches.enter_context(trick.off())
            given = Settings(
                database_url=settings.database_url,
                redis_url=settings.redis_url,
                db_schema=settings.db_schema,
                namespace=settings.namespace,
                budget=60.0,  # however slow the machine, a batch is not cut short
            )
            runtime = build_runtime(given, trick.sagas)
            stack.callback(runtime.close)
            with runtime.engine.begin() as connection:
                metadata.create_all(connection)
            assert runtime._wiring.consumers
            assert runtime._wiring.broker
            runtime._administration.subscribe_once()
            return runtime

        yield make


def start(runtime: Runtime, name: str, count: int, *, refused: bool = False) -> list[UUID]:
    """Start so many sagas of each kind; returns their orders."""
    orders = []
    for saga in TRICKS[name].sagas:
        new = [Order(order_id=uuid7(), refused=refused) for _ in range(count)]
        with runtime.engine.begin() as connection:
            runtime.start_many(connection, saga, new)
        orders += [order.order_id for order in new]
    return orders


def drain(runtime: Runtime) -> None:
    while sum(runtime.answer(consumer, follow=True) for consumer in runtime._wiring.consumers):
        pass


@pytest.mark.parametrize("name", TRICKS)
def test_without_a_trick_sagas_end_as_with_it(make: Make, name: str) -> None:
    runtime = make(name)
    expected = {}
    for refused, status in ((False, "completed"), (True, "compensated")):
        orders = start(runtime, name, SAGAS, refused=refused)
        drain(runtime)
        expected[status] = len(orders)
        with psycopg.connect(database_url(runtime.settings)) as connection:
            Ledger(connection).check(orders, refused)
    with runtime.engine.connect() as connection:
        statuses = text(
            f"SELECT status, count(*) FROM {runtime.settings.db_schema}.saga GROUP BY 1"
        )
        assert dict(connection.execute(statuses).all()) == expected


def sent_for(runtime: Runtime, name: str, log: Path) -> str:
    """Return what a context's hops send for some deliveries, as libpq tells it."""
    start(runtime, name, SAGAS)
    runtime.engine.dispose()
    with log.open("w+b", buffering=0) as file:

        def trace(driver: Any, _: object) -> None:
            driver.pgconn.trace(file.fileno())
            driver.pgconn.set_trace_flags(Trace.SUPPRESS_TIMESTAMPS)

        event.listen(runtime.engine, "connect", trace)
        assert runtime.answer("first", follow=False) == SAGAS
        runtime.engine.dispose()
        event.remove(runtime.engine, "connect", trace)
        file.seek(0)
        return file.read().decode()


@pytest.mark.parametrize(
    ("name", "statement", "with_it", "without"),
    [
        ("batches", r'Query\s+"COMMIT"', 2, SAGAS + 1),  # a process begins with a batch of four
        ("no savepoint", r"(?<!RELEASE )SAVEPOINT saga_handler", 0, SAGAS),
        ("chained savepoints", r"RELEASE SAVEPOINT saga_handler;SAVEPOINT", SAGAS - 2, 0),
        ("batch lock", "pg_try_advisory_xact_lock", 2, 0),
        ("batch lock, hot rows", "pg_try_advisory_xact_lock", 2, 0),
        ("one statement", r'"\s*UPDATE \S+\.inbox', 0, 2),
    ],
)
def test_without_it_a_hop_does_what_it_saves(
    make: Make, tmp_path: Path, name: str, statement: str, with_it: int, without: int
) -> None:
    counts = []
    for off in (False, True):
        runtime = make(name, off=off)
        counts.append(len(re.findall(statement, sent_for(runtime, name, tmp_path / "wire"))))
    assert counts == [with_it, without]


def left_by(runtime: Runtime, name: str, work: Callable[[Runtime], object]) -> set[str]:
    """Return the consumers that have something due after this work for a saga of each kind."""
    start(runtime, name, 1)
    work(runtime)
    with runtime.engine.begin() as connection:
        pending = text(
            f"DELETE FROM {runtime.settings.db_schema}.inbox WHERE state = 'pending' RETURNING consumer"
        )
        return set(connection.execute(pending).scalars())


def hop_once(runtime: Runtime) -> None:
    hop(
        runtime._wiring.database,
        runtime._wiring.consumers["first"],
        2,
        runtime._worker_loop.colocated,
    )


def answer(runtime: Runtime) -> None:
    runtime.answer("first", follow=True)


@pytest.mark.parametrize(
    ("name", "work", "with_it", "without"),
    [
        ("colocation", hop_once, {"second"}, {"saga.order"}),
        ("second look, two sagas", hop_once, {"second"}, {"second", "saga.reorder"}),
        ("second look, settled", hop_once, {"second"}, {"saga.patient_order"}),
        ("chaining", answer, set(), {"second"}),
    ],
)
def test_without_it_more_is_left_to_others(
    make: Make,
    name: str,
    work: Callable[[Runtime], object],
    with_it: set[str],
    without: set[str],
) -> None:
    left = [left_by(make(name, off=off), name, work) for off in (False, True)]
    assert left == [with_it, without]


@pytest.mark.parametrize(("off", "answers"), [(False, 1), (True, 2)])
def test_without_coalescing_each_thread_that_is_rung_answers(off: bool, answers: int) -> None:
    coalescing = Coalescing(patience=3600.0)
    answered: list[int] = []

    def once() -> int:
        answered.append(len(answered))
        coalescing.hopping()
        if len(answered) == 1:
            coalescing.run(once, lambda: None)  # as another thread would
            assert len(answered) == answers
        return 1

    with TRICKS["coalescing"].off() if off else nullcontext():
        coalescing.run(once, lambda: None)


def test_without_the_own_broker_doorbells_are_messages_of_dramatiqs(make: Make) -> None:
    assert not isinstance(make("own broker", off=False)._wiring.broker, StockDoorbells)
    assert isinstance(make("own broker")._wiring.broker, StockDoorbells)


@pytest.mark.parametrize(("off", "waiting"), [(False, 8), (True, 20)])
def test_without_a_limit_all_doorbells_wait(make: Make, off: bool, waiting: int) -> None:
    broker = make("few doorbells", off=off)._wiring.broker
    for _ in range(20):
        broker.ring(["first"])
    assert broker.waiting(["first"]) == {"first": waiting}


def test_the_statements_of_the_hop_go_through_sqlalchemy_without_its_own_cursor(make: Make) -> None:
    seen = []
    for off in (False, True):
        runtime = make("driver's cursor", off=off)
        statements: list[str] = []
        event.listen(
            runtime.engine,
            "before_cursor_execute",
            lambda _, __, statement, *___, to=statements: to.append(statement),
        )
        runtime.answer("first", follow=False)
        seen.append(any("FOR UPDATE SKIP LOCKED" in statement for statement in statements))
    assert seen == [False, True]


def test_real_workers_are_measured_with_a_trick_and_without_it(
    servers: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SAGA_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("SAGA_REDIS_URL", servers.redis_url)
    monkeypatch.setattr(tricks, "RESULTS", tmp_path / "tricks.md")
    monkeypatch.setattr(tricks, "PROCESSES", (1,))
    monkeypatch.setattr(tricks, "QUICK", Size(busy=20, idle=2, repeats=2))
    tricks.main(["--quick", "--only", "batch lock, hot rows", "--json"])
    [figures] = json.loads(capsys.readouterr().out)
    assert (figures["trick"], figures["processes"]) == ("batch lock, hot rows", 1)
    for figure in ("ok_per_second", "worker_cpu_ms", "p50_ms"):
        found = figures[figure]
        assert found["with"] > 0
        assert found["without"] > 0
        assert 0 < found["least"] <= found["gain"] <= found["greatest"]
    assert "| batch lock, hot rows | 1 |" in (tmp_path / "tricks.md").read_text()


def test_a_gain_is_above_one_where_the_trick_pays() -> None:
    def spell(rate: float, cpu: float) -> dict[str, float]:
        return {"ok_per_second": rate, "worker_cpu_ms": cpu}

    pairs = [
        (spell(30, 1), spell(10, 4)),
        (spell(10, 1), spell(10, 1)),
        (spell(20, 2), spell(10, 3)),
    ]
    compared = Compared("batches", 1, pairs)
    assert compared.gains("ok_per_second") == (2, 1, 3)
    assert compared.gains("worker_cpu_ms") == (1.5, 1, 4)
    assert compared.medians("ok_per_second") == (20, 10)


def test_of_a_server_elsewhere_no_gain_is_told() -> None:
    assert Compared("batches", 1, [({"postgres_cpu_ms": 0.0},) * 2]).gains("postgres_cpu_ms") == (1, 1, 1)  # fmt: skip


def test_the_workers_program_does_without_the_trick_that_it_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of its processes imports it."""
    code = (
        "import json; from benchmarks import tricks_worker as w; from boundary import Settings;"
        "print(json.dumps(Settings().batch))"
    )
    batches = []
    for off in ("", "yes"):
        environment = {
            **os.environ,
            **_environment(settings),
            tricks.TRICK: "batches",
            tricks.OFF: off,
        }
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        batches.append(json.loads(done.stdout))
    assert batches == [64, 1]
