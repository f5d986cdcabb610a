"""DBOS as a peer: it keeps its state in Postgres, as we do, and runs in the caller's process."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from sqlalchemy import make_url

from benchmarks.peers.peer import Lost, database_url, ledger, new_orders
from boundary import Settings

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class DbosPeer:
    """One process of eight threads."""

    name: str = "dbos"
    configuration: str = "8 threads in process; idle over its queue, polled every 20 ms"
    share: float = 0.2

    @contextmanager
    def run(self, settings: Settings) -> Iterator["_Running"]:
        assert settings.database_url is not None
        url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql")
        schema = f"{settings.db_schema}_dbos"
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.dbos_program"],
            cwd=_ROOT,
            env={
                **os.environ,
                "BENCH_DATABASE_URL": database_url(settings),
                "BENCH_SYSTEM_URL": url.render_as_string(hide_password=False),
                "BENCH_SYSTEM_SCHEMA": schema,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        running = _Running(process)
        try:
            running.hear()
            yield running
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            with ledger(settings) as connection:
                connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())


@dataclass(frozen=True, slots=True)
class _Running:
    popen: "subprocess.Popen[str]"

    @property
    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(self.popen.pid)]

    def busy(self, count: int, refused: bool) -> Sequence[UUID]:
        orders = new_orders(count)
        self._ask(orders, refused, idle=False)
        return orders

    def idle(self, count: int, refused: bool) -> tuple[Sequence[UUID], Sequence[float]]:
        orders = new_orders(count)
        return orders, self._ask(orders, refused, idle=True)["seconds"]

    def hear(self) -> dict[str, Any]:
        """Return its next answer; raises `Lost` if it has ended."""
        assert self.popen.stdout is not None
        line = self.popen.stdout.readline()
        if not line:
            raise Lost(f"DBOS ended with status {self.popen.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, orders: Sequence[UUID], refused: bool, *, idle: bool) -> dict[str, Any]:
        assert self.popen.stdin is not None
        asked = {"orders": [str(order) for order in orders], "refused": refused, "idle": idle}
        self.popen.stdin.write(json.dumps(asked) + "\n")
        self.popen.stdin.flush()
        return self.hear()
