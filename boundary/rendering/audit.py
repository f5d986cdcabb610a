"""Audit: what was done by hand, a line each."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from boundary.queries.audit import AuditEntry
from boundary.queries.time_format import clock
from boundary.rendering.words import one_line


def render_audit(entries: Sequence[AuditEntry], now: datetime) -> Table:
    """Draw acts: when, who, what and why."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("WHEN", "WHO"):
        table.add_column(heading, no_wrap=True)
    for heading in ("WHAT", "WHY"):
        table.add_column(heading, overflow="fold")
    for entry in entries:
        table.add_row(
            clock(entry.at, now),
            Text(one_line(entry.actor)),
            Text(one_line(_what(entry))),
            Text(one_line(entry.reason)),
        )
    return table


def _what(entry: AuditEntry) -> str:
    """The act with what it was given, without values of data."""
    detail: Mapping[str, Any] = entry.detail
    words = [entry.act]
    if detail.get("step"):
        words.append(f"step {detail['step']}")
    if detail.get("from_step"):
        words.append(f"from step {detail['from_step']}")
    if detail.get("data"):
        words.append(f"with {', '.join(sorted(detail['data']))} corrected")
    if detail.get("kind"):
        words.append(str(detail["kind"]))
    if entry.message_id is not None:
        words.append(str(entry.message_id))
        if detail.get("consumer"):
            words.append(f"at {detail['consumer']}")
    return " ".join(words)
