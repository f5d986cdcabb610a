"""Plain Dramatiq as a peer: it keeps no state, so it is what a durable saga has to beat."""

import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil

from benchmarks.peers.peer import Ledger, Lost, database_url, ledger, new_orders
from benchmarks.servers import Worker
from boundary import Settings

_ROOT = Path(__file__).parents[2]
_LOOK, _LOOK_AT_ALL, _PATIENCE = 0.001, 0.02, 300.0


@dataclass(frozen=True, slots=True)
class DramatiqPeer:
    """Worker processes of eight threads that fetch so many messages ahead."""

    processes: int
    prefetch: int
    name: str = "dramatiq"
    share: float = 1.0

    @property
    def configuration(self) -> str:
        return f"{self.processes} process(es) of 8 threads, prefetch {self.prefetch}"

    @contextmanager
    def run(self, settings: Settings) -> Iterator["_Running"]:
        assert settings.redis_url is not None
        os.environ.update(
            BENCH_DATABASE_URL=database_url(settings),
            BENCH_REDIS_URL=settings.redis_url.get_secret_value(),
            BENCH_NAMESPACE=settings.namespace,
        )
        actors = importlib.reload(importlib.import_module("benchmarks.peers.dramatiq_actors"))
        command = [sys.executable, "-m", "dramatiq", actors.__name__]
        command += ["--processes", str(self.processes), "--threads", "8"]
        environment = {**os.environ, "dramatiq_queue_prefetch": str(self.prefetch)}
        worker = Worker()
        try:
            worker.start(
                command,
                cwd=_ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            with ledger(settings) as connection:
                running = _Running(actors, worker, Ledger(connection))
                running.busy(10, refused=False)  # it is up, and each step was imported
                yield running
        finally:
            worker.stop()
            actors.broker.client.close()


@dataclass(frozen=True, slots=True)
class _Running:
    actors: Any
    worker: Worker
    ledger: Ledger

    @property
    def processes(self) -> list[psutil.Process]:
        return self.worker.processes

    def busy(self, count: int, refused: bool) -> Sequence[UUID]:
        orders = new_orders(count)
        for order in orders:
            self.actors.do_first.send(str(order), refused)
        self._wait(orders, refused, _LOOK_AT_ALL)
        return orders

    def idle(self, count: int, refused: bool) -> tuple[Sequence[UUID], Sequence[float]]:
        orders, seconds = new_orders(count), []
        for order in orders:
            began = time.perf_counter()
            self.actors.do_first.send(str(order), refused)
            self._wait([order], refused, _LOOK)
            seconds.append(time.perf_counter() - began)
        return orders, seconds

    def _wait(self, orders: Sequence[UUID], refused: bool, every: float) -> None:
        last = "first undone" if refused else "third"
        try:
            self.worker.wait_for(
                lambda: self.ledger.count(orders, last) >= len(orders),
                every=every,
                seconds=_PATIENCE,
            )
        except RuntimeError as error:
            raise Lost(f"plain Dramatiq: {error}") from error
