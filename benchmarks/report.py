"""Report: the figures of a run as a table and as JSON, with the machine and the versions."""

import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import redis
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.meter import Counts, Meter

#: Figures that the table shows, and their heads.
_COLUMNS = {
    "scenario": "scenario",
    "sagas": "sagas",
    "sagas_per_second": "sagas/s",
    "commits_per_delivery": "commits/\ndelivery",
    "commits_per_saga": "commits/\nsaga",
    "statements_per_delivery": "SQL/\ndelivery",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
}

_PACKAGES = ("hybrid-saga", "dramatiq", "psycopg", "sqlalchemy", "pydantic", "redis")


@dataclass(frozen=True, slots=True)
class Row:
    """What one scenario came to."""

    scenario: str
    #: Those of the warm worker, and how long they took.
    sagas: int
    seconds: float
    #: Those that warmed it up too; what is counted is counted for all of them.
    all_sagas: int
    #: Transactions that started them: a cost of the saga, not of a delivery.
    starts: int
    #: Less what the worker would have done without any.
    counts: Counts
    #: Seconds from a saga's start to its end; empty where they all ran at once.
    latencies: Sequence[float] = ()

    def figures(self) -> dict[str, Any]:
        """Return the figures by name; None where there is none."""
        counts = self.counts
        statements = counts.statements
        return {
            "scenario": self.scenario,
            "sagas": self.sagas,
            "sagas_per_second": round(self.sagas / self.seconds, 1),
            "deliveries": round(counts.deliveries),
            "commits_per_delivery": round((counts.commits - self.starts) / counts.deliveries, 3),
            "commits_per_saga": round(counts.commits / self.all_sagas, 3),
            "statements_per_delivery": (
                None if statements is None else round(statements / counts.deliveries, 2)
            ),
            "p50_ms": _percentile(self.latencies, 0.50),
            "p99_ms": _percentile(self.latencies, 0.99),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """A whole run."""

    machine: dict[str, str]
    workers: str
    #: Commits a second of workers that have nothing to do, their relays' looks.
    relay_commits_per_second: float
    rows: list[Row] = field(default_factory=list)
    #: Other sessions in the database, at most.
    strangers: int = 0

    def as_json(self) -> dict[str, Any]:
        return {
            "machine": self.machine,
            "workers": self.workers,
            "relay_commits_per_second": round(self.relay_commits_per_second, 2),
            "other_sessions": self.strangers,
            "scenarios": [row.figures() for row in self.rows],
        }

    def print(self, console: Console) -> None:
        for name, value in self.machine.items():
            console.print(f"[dim]{name}:[/dim] {value}", highlight=False)
        rows = [row.figures() for row in self.rows]
        names = [name for name in _COLUMNS if any(figures[name] is not None for figures in rows)]
        table = Table(box=box.SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
        for name in names:
            left = name == "scenario"
            table.add_column(_COLUMNS[name], justify="left" if left else "right", no_wrap=True)
        for figures in rows:
            table.add_row(*(_shown(figures[name]) for name in names))
        console.print(table)
        console.print(
            f"{self.workers}.  Without sagas: {self.relay_commits_per_second:.1f} commits a second, "
            "by the relay; taken off above.",
            highlight=False,
        )
        if self.strangers:
            console.print(f"{self.strangers} other sessions were connected; their commits count.")


def describe_machine(meter: Meter, redis_url: str) -> dict[str, str]:
    """Return what a reader needs to compare: processors, load, servers, packages."""
    with redis.Redis.from_url(redis_url) as client:
        info: dict[str, Any] = client.info("server")
    name = info.get("server_name", "redis")
    kept = {s: meter.query(f"SHOW {s}") for s in ("fsync", "synchronous_commit")}
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} x {_processor()}, "
        f"load {os.getloadavg()[0]:.1f} at the start",
        "Postgres": f"{meter.query('SHOW server_version')}, "
        + ", ".join(f"{setting} {value}" for setting, value in kept.items()),
        name.capitalize(): str(info.get(f"{name}_version", info.get("redis_version", "?"))),
        "Python": f"{platform.python_version()} on {sys.platform}, "
        + ", ".join(f"{package} {version(package)}" for package in _PACKAGES),
    }


def _shown(figure: object) -> str:
    if figure is None:
        return ""
    return figure if isinstance(figure, str) else f"{figure:,}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or "processor")


def _percentile(seconds: Sequence[float], share: float) -> float | None:
    if not seconds:
        return None
    ranked = sorted(seconds)
    return round(ranked[math.ceil(share * len(ranked)) - 1] * 1000, 1)
