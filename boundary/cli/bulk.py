"""Bulk: how a command acts on one or many: asks, acts, shows how far it is, and tells what became.

Counts, samples, questions and progress go to stderr, so that stdout holds the result alone.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import typer

from boundary.cli.errors import Complaint
from boundary.cli.output import show, show_json
from boundary.cli.progress import Progress
from boundary.cli.session import Desk
from boundary.operations.bulk import (
    Act,
    Look,
    Report,
    Target,
    do_next,
    look_at_sagas,
    watch_canaries,
)
from boundary.rendering import render_report, report_document
from boundary.rendering.words import one_line

#: How many of those that fit are named before they are acted on.
_SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Deed:
    """What a command does, to whatever it is done."""

    #: As the command is called, such as "parked retry".
    name: str
    #: "retry" and "retried".
    verb: str
    past: str
    actor: str
    reason: str
    dry_run: bool
    json: bool

    @property
    def told(self) -> str:
        """What becomes of its targets: "retried", or "would be retried"."""
        return f"would be {self.past}" if self.dry_run else self.past


@dataclass(frozen=True, slots=True)
class Canaries:
    """How many are done first, and how many seconds they are watched."""

    count: int = 0
    wait: float = 0.0
    #: Sees what has become of them.
    look: Callable[..., Sequence[Look]] = look_at_sagas


def confirm(deed: Deed, targets: Sequence[Target], what: str, *, yes: bool) -> None:
    """Tell what fits a filter, and ask whether to go on.

    Raises `Complaint` when the answer is no, and where nobody can be asked and ``--yes`` is not
    given.
    """
    if not targets:
        return
    fitting = f"{len(targets):,} {what} fit{'s' * (len(targets) == 1)}: {_sample(targets)}"
    if yes or deed.dry_run:
        typer.echo(fitting, err=True)
    elif not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Complaint(
            f"{fitting}; add --yes to {deed.verb} them, or --dry-run to see what would be done"
        )
    else:
        typer.echo(fitting, err=True)
        if not typer.confirm(f"{deed.verb} them?", err=True):
            raise Complaint(f"nothing was {deed.past}", 1)


def carry_out(
    desk: Desk,
    deed: Deed,
    targets: Sequence[Target],
    act: Act,
    *,
    nothing: str = "nothing fits",
    canaries: Canaries = Canaries(),
) -> None:
    """Act on each target in a transaction of its own, and tell what became of them.

    What is done stays done whatever stops the command, and is told then too.

    Args:
        desk: Knows the servers.
        deed: What is done.
        targets: In the order in which it is done to them.
        act: Does it to one.
        nothing: What is said when there is no target.
        canaries: Those done first; if one of them goes wrong, the rest is not touched.

    Raises:
        Complaint: It was refused, or the canaries went wrong.
        typer.Exit: Some of many were refused.
    """
    report = Report(targets)
    try:
        with desk.database_errors():
            if 0 < canaries.count < len(targets) and not deed.dry_run:
                _go_ahead(desk, deed, report, act, canaries)
            if report.stopped is None:
                _do_rest(deed, report, act)
    finally:
        _tell(deed, report, nothing)
    if report.stopped is not None:
        raise Complaint(one_line(report.stopped), 1)
    if report.refused:
        if len(targets) == 1:
            raise Complaint(one_line(report.refused[0].why), 1)
        raise typer.Exit(1)


def unique(targets: Iterable[Target]) -> list[Target]:
    """Return the targets without those that come twice."""
    found: dict[tuple[UUID, str | None], Target] = {}
    for target in targets:
        found.setdefault((target.id, target.consumer), target)
    return list(found.values())


def _go_ahead(desk: Desk, deed: Deed, report: Report, act: Act, canaries: Canaries) -> None:
    for _ in do_next(report, act, canaries.count):
        pass
    if not (report.done and report.rest):
        return
    first = [done.target for done in report.done]
    typer.echo(f"{deed.past} first: {_sample(first)}; waiting for what becomes of it", err=True)
    watch_canaries(desk.runtime, report, canaries.wait, canaries.look)


def _do_rest(deed: Deed, report: Report, act: Act) -> None:
    with Progress(deed.told, len(report.rest)) as progress:
        for _ in do_next(report, act):
            progress.advance()


def _tell(deed: Deed, report: Report, nothing: str) -> None:
    begun = bool(report.done or report.refused)
    if report.targets and not begun:
        return  # what stopped it is told in a sentence
    if deed.json:
        show_json(
            report_document(
                report,
                act=deed.name,
                actor=deed.actor,
                reason=deed.reason,
                dry_run=deed.dry_run,
            )
        )
    elif not report.targets:
        typer.echo(f"nothing to do: {nothing}")
    elif report.done or len(report.targets) > 1:
        show(render_report(report, deed.past, dry_run=deed.dry_run))


def _sample(targets: Sequence[Target]) -> str:
    named = ", ".join(target.label for target in targets[:_SAMPLE])
    more = len(targets) - _SAMPLE
    return f"{named} and {more:,} more" if more > 0 else named
