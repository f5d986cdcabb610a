"""The demo's report: the summary a person reads, and the same as one JSON object."""

import json
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import Connection

from boundary.operations import show_saga
from boundary.rendering import render_trace
from examples.travel.booking import BOOK_TRIP
from examples.travel.checks import Check
from examples.travel.disrupted import Disrupted
from examples.travel.disruption import REBOOK_TRIP
from examples.travel.record import read_example
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.trace import trace
from saga import Status


@dataclass(frozen=True, slots=True)
class Report:
    """How the demo went."""

    trips: int
    #: The final status of each trip's saga, by the trip's reference.
    statuses: Mapping[str, str]
    #: Compensated trips, by what was refused first.
    rejections: Mapping[str, int]
    kills: int
    flushes: int
    seconds: float
    checks: tuple[Check, ...]
    #: What became of trips whose flight was cancelled, if that was played.
    disrupted: Disrupted | None = None

    @property
    def ok(self) -> bool:
        """Whether every check held."""
        return all(check.ok for check in self.checks)

    @property
    def counts(self) -> Counter[str]:
        """How many trips ended in which status."""
        return Counter(self.statuses.values())

    @property
    def unfinished(self) -> int:
        """Trips that are neither over nor stuck; those that never began are among them."""
        counts = self.counts
        over = (Status.COMPLETED, Status.COMPENSATED, Status.STUCK)
        return self.trips - sum(counts[status] for status in over)

    @property
    def sagas_per_second(self) -> float:
        """Trips that are over, by the time from the first worker's start to the last delivery."""
        over = self.counts[Status.COMPLETED] + self.counts[Status.COMPENSATED]
        return over / self.seconds


def write_json(report: Report) -> None:
    """Print the report as one JSON object."""
    counts = report.counts
    summary: dict[str, Any] = {
        "trips": report.trips,
        "completed": counts[Status.COMPLETED],
        "compensated": counts[Status.COMPENSATED],
        "stuck": counts[Status.STUCK],
        "unfinished": report.unfinished,
        "rejections": dict(report.rejections),
        "kills": report.kills,
        "seconds": round(report.seconds, 3),
        "sagas_per_second": round(report.sagas_per_second, 1),
        "checks": {check.name: check.ok for check in report.checks},
    }
    if report.flushes:
        summary["flushes"] = report.flushes
    if report.disrupted is not None:
        summary |= {
            "disrupted": len(report.disrupted.ended),
            "rebooked": len(report.disrupted.rebooked),
            "settled": report.disrupted.settled,
            "causally_undone": len(report.disrupted.undone),
            "still_standing": report.disrupted.still_standing,
        }
    json.dump(summary, sys.stdout, indent=2)
    sys.stdout.write("\n")


def write_report(report: Report, connection: Connection, schema: str) -> None:
    """Print the summary, and the traces of one completed and one compensated trip."""
    console = Console(highlight=False)
    counts = report.counts
    console.print()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold")
    table.add_column(justify="right")
    table.add_column(style="dim")
    table.add_row("Trips", f"{report.trips:,}")
    table.add_row("Completed", f"[green]{counts[Status.COMPLETED]:,}[/]")
    table.add_row("Compensated", f"[yellow]{counts[Status.COMPENSATED]:,}[/]")
    for rejection, count in sorted(report.rejections.items(), key=lambda item: -item[1]):
        table.add_row("", f"{count:,}", rejection)
    table.add_row("Stuck", _alarming(counts[Status.STUCK]))
    table.add_row("Unfinished", _alarming(report.unfinished))
    if (found := report.disrupted) is not None:
        table.add_row("Disrupted", f"{len(found.ended):,}", "by a flight that was cancelled later")
        table.add_row("", f"[green]{len(found.rebooked):,}[/]", "rebooked to a later flight")
        table.add_row("", f"[yellow]{len(found.undone):,}[/]", "found none: reactions undone")
        table.add_row(
            "", f"{found.still_standing:,}", "reactions stand: a message cannot be unsent"
        )
    table.add_row("Sagas per second", f"{report.sagas_per_second:,.0f}", f"{report.seconds:.1f} s")
    table.add_row("Workers killed", f"{report.kills:,}", "with SIGKILL, at work")
    if report.flushes:
        table.add_row("Redis wiped", f"{report.flushes:,}", "times")
    console.print(table)
    console.print("\n[bold]Checked in the tables[/]")
    for check in report.checks:
        mark = "[green]✓[/]" if check.ok else "[red]✗[/]"
        detail = f": [red]{check.detail}[/]" if check.detail else ""
        console.print(f" {mark} {check.name.replace('_', ' ')}{detail}")
    _write_traces(console, connection, schema)


def _alarming(count: int) -> str:
    return f"[red]{count:,}[/]" if count else "0"


def _write_traces(console: Console, connection: Connection, schema: str) -> None:
    examples = (
        (BOOK_TRIP, Status.COMPLETED, "A trip that was completed"),
        (BOOK_TRIP, Status.COMPENSATED, "A trip that was compensated"),
        (REBOOK_TRIP, Status.COMPLETED, "A trip that was rebooked"),
        (REBOOK_TRIP, Status.COMPENSATED, "A trip for which no later flight had seats"),
    )
    for saga, status, heading in examples:
        key = read_example(connection, schema, saga.name, status)
        if key is None:
            continue
        unit = SqlAlchemyUnitOfWork(connection)
        detail = show_saga(unit, schema, f"{saga.name}:{key}")
        console.print(f"\n[bold]{heading}[/]")
        console.print(render_trace(trace(unit, schema, detail.saga.id), detail))
    console.print(f"\nLook closer: SAGA_SCHEMA={schema} saga list, show or trace TRIP-…")
