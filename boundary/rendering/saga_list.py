"""Saga list: sagas and doctor's findings, a line each."""

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from boundary.operations.doctor import Finding, Verdict
from boundary.queries.saga_list import SagaSummary
from boundary.queries.time_format import clock, duration
from boundary.rendering.words import STATUS_STYLES, one_line, status_text
from saga.state import Status

_MARKS: Mapping[Verdict, tuple[str, str]] = {
    Verdict.FINE: ("✓", "green"),
    Verdict.NOTE: ("!", "yellow"),
    Verdict.WRONG: ("✗", "bold red"),
}


def render_sagas(
    sagas: Sequence[SagaSummary], counts: Mapping[Status, int] | None = None
) -> RenderableType:
    """Draw a table of sagas, and below it how many there are in all."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    names = {saga.name for saga in sagas}
    table.add_column("STATUS", no_wrap=True)
    table.add_column(f"SAGA {names.copy().pop()}" if len(names) == 1 else "SAGA", no_wrap=True)
    table.add_column("STARTED", no_wrap=True)
    table.add_column("TOOK", no_wrap=True, justify="right")
    if any(saga.reason for saga in sagas):
        table.add_column("REASON")
    for saga in sagas:
        reference = saga.key or str(saga.id)
        reference = reference if len(names) == 1 else f"{saga.name}:{reference}"
        table.add_row(
            status_text(saga.status),
            Text(one_line(reference)),
            clock(saga.started_at, saga.at),
            duration(saga.age),
            *([_cut(saga.reason.removeprefix("step "))] if saga.reason else []),
        )
    parts: list[RenderableType] = [table] if sagas else [Text("no saga fits", "dim")]
    if counts and any(counts.values()):
        parts.append(_counts(counts))
    return Group(*parts)


def render_checks(findings: Sequence[Finding]) -> RenderableType:
    """Draw what doctor found: a line each, and the way out below what is wrong."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        mark, style = _MARKS[finding.verdict]
        told = Text(one_line(finding.found))
        if finding.remedy:
            told.append(f"; {one_line(finding.remedy)}", style)
        table.add_row(Text(mark, style), Text(finding.check, "bold"), told)
    return table


def _cut(text: str) -> Text:
    """One line that ends in an ellipsis where the terminal does."""
    return Text(one_line(text), no_wrap=True, overflow="ellipsis")


def _counts(counts: Mapping[Status, int]) -> Text:
    line = Text("in all: ", "dim")
    shown = [(status, count) for status, count in counts.items() if count]
    for place, (status, count) in enumerate(shown):
        line.append(" · " if place else "", "dim")
        line.append(f"{count:,} {status.value}", STATUS_STYLES[status])
    return line
