"""Action report: what was done to sagas and parked messages, or would be."""

from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from boundary.operations.actions import Signalled
from boundary.operations.bulk import Done, Report, Target
from boundary.queries.saga_list import SagaSummary
from boundary.rendering.words import STATUS_STYLES, one_line

#: How many of those done are drawn, a line each; those refused are all drawn.
_SHOWN = 20


def render_report(report: Report, past: str, *, dry_run: bool) -> RenderableType:
    """Draw what became of an act: a line for each target, and with many a line for all.

    Args:
        report: What became of them.
        past: The act as in "it was replayed".
        dry_run: Whether it was only tried.
    """
    told = f"would be {past}" if dry_run else past
    lines = [_done(done, told, dry_run) for done in report.done[:_SHOWN]]
    if len(report.done) > _SHOWN:
        lines.append(Text(f"and {len(report.done) - _SHOWN:,} more", "dim"))
    lines.extend(
        Text.assemble((r.target.label, "bold"), (" refused: ", "red"), one_line(r.why))
        for r in report.refused
    )
    if len(report.targets) > 1:
        counts = [f"{told} {len(report.done):,}", f"refused {len(report.refused):,}"]
        counts += [f"not touched {report.untouched:,}"] if report.untouched else []
        lines.append(Text(", ".join(counts), "bold"))
    return Group(*lines)


def render_signal(
    saga: SagaSummary, kind: str, signalled: Signalled, *, dry_run: bool
) -> RenderableType:
    """Draw what became of a signal, in one line."""
    line = Text(one_line(saga.reference), "bold")
    if not signalled.sent:
        return line.append(f": {kind} {signalled.message_id} was sent before", "dim")
    told = " would be signalled: " if dry_run else " signalled: "
    line.append(told)
    line.append(kind)
    return line if dry_run else line.append(f", message {signalled.message_id}", "dim")


def report_document(
    report: Report, *, act: str, actor: str, reason: str, dry_run: bool
) -> dict[str, Any]:
    """Return what became of an act, on one or on many alike."""
    return {
        "act": act,
        "dry_run": dry_run,
        "actor": actor,
        "reason": reason,
        "done": [_done_document(done) for done in report.done],
        "refused": [_target_document(r.target) | {"why": r.why} for r in report.refused],
        "untouched": report.untouched,
        "stopped": report.stopped,
    }


def signal_document(
    saga: SagaSummary, kind: str, signalled: Signalled, *, actor: str, reason: str, dry_run: bool
) -> dict[str, Any]:
    """Return what became of a signal."""
    return {
        "act": "signal",
        "dry_run": dry_run,
        "actor": actor,
        "reason": reason,
        "saga_id": str(saga.id),
        "label": saga.reference,
        "kind": kind,
        "message_id": str(signalled.message_id),
        "sent": signalled.sent,
    }


def _done(done: Done, told: str, dry_run: bool) -> Text:
    line = Text.assemble((done.target.label, "bold"), f" {told}")
    if done.acted is None:
        return line
    acted = done.acted
    line.append(": ")
    line.append(acted.before.value, STATUS_STYLES[acted.before])
    if acted.after is not acted.before:
        line.append(" → ", "dim")
        line.append(acted.after.value, STATUS_STYLES[acted.after])
    if acted.sent:
        line.append(f"; {'would send' if dry_run else 'sent'} {', '.join(acted.sent)}")
    if acted.new_key:
        line.append(
            "; with a new idempotency key: the failed call is declared to have had no effect"
        )
    if acted.retried:
        count = len(acted.retried)
        would = "would be " if dry_run else ""
        line.append(f"; {count} parked message{'s' * (count != 1)} {would}delivered again")
    return line


def _done_document(done: Done) -> dict[str, Any]:
    document = _target_document(done.target)
    if done.acted is not None:
        document |= {
            "before": done.acted.before.value,
            "after": done.acted.after.value,
            "sent": list(done.acted.sent),
            "retried": [str(id) for id in done.acted.retried],
        }
        if done.acted.new_key:
            document["new_key"] = True
    return document


def _target_document(target: Target) -> dict[str, Any]:
    document: dict[str, Any] = {"id": str(target.id), "label": target.label}
    return document if target.consumer is None else document | {"consumer": target.consumer}
