"""Parked pages: deliveries that failed for good, as a list, and one message with all of its own."""

import json
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from boundary.queries.parked import (
    MessageDelivery,
    MessageDetail,
    ParkedGroup,
    ParkedSummary,
)
from boundary.queries.time_format import clock
from boundary.rendering.audit import render_audit
from boundary.rendering.trace_tree import from_outside
from boundary.rendering.words import DELIVERY_MARKS, one_line


def render_parked(deliveries: Sequence[ParkedSummary], count: int) -> RenderableType:
    """Draw a table of parked deliveries, and below it how many there are in all."""
    if not deliveries:
        return Text("no parked delivery fits", "dim")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("MESSAGE", "KIND", "CONSUMER", "PARKED", "SAGA"):
        table.add_column(heading, no_wrap=heading != "SAGA", overflow="fold")
    table.add_column("TRIED", justify="right", no_wrap=True)
    table.add_column("ERROR", no_wrap=True, overflow="ellipsis")
    for delivery in deliveries:
        table.add_row(
            str(delivery.message_id),
            Text(one_line(delivery.kind)),
            Text(one_line(delivery.consumer)),
            clock(delivery.parked_at, delivery.at),
            Text(one_line(delivery.saga_reference or "")),
            str(delivery.attempts),
            Text(one_line(delivery.last_error or "")),
        )
    return Group(table, Text(f"in all: {count:,} parked", "dim"))


def render_groups(groups: Sequence[ParkedGroup]) -> RenderableType:
    """Draw the causes for which deliveries are parked, with an example of each."""
    if not groups:
        return Text("no parked delivery fits", "dim")
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column("GROUP", no_wrap=True)
    table.add_column("PARKED", justify="right", no_wrap=True)
    for heading in ("CONSUMER", "KIND", "FIRST", "LAST"):
        table.add_column(heading, no_wrap=True)
    table.add_column("SUCH AS", overflow="fold")
    for group in groups:
        table.add_row(
            group.id,
            f"{group.count:,}",
            Text(one_line(group.consumer)),
            Text(one_line(group.kind)),
            clock(group.first_at, group.at),
            clock(group.last_at, group.at),
            Text(one_line(group.example or "")),
        )
    return table


def render_message(detail: MessageDetail, *, payload: bool) -> RenderableType:
    """Draw one message: what it is, its deliveries, and what was done to it by hand.

    Args:
        detail: The message.
        payload: Whether what it says is drawn.
    """
    facts = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("message", Text(f"{one_line(detail.kind)}, {detail.category}", "bold"))
    facts.add_row("id", str(detail.id))
    if detail.saga_id is not None:
        facts.add_row("saga", Text(one_line(detail.saga_reference or "")))
        facts.add_row("saga id", str(detail.saga_id))
    facts.add_row("sent by", Text(one_line(detail.sender or "the host's code")))
    facts.add_row("sent", clock(detail.sent_at, detail.at))
    if detail.origin is not None:
        facts.add_row("from outside", Text(from_outside(detail.origin)))
    if detail.causation_id is not None:
        facts.add_row("caused by", f"message {detail.causation_id}")
    if detail.root_id != detail.id:
        facts.add_row("under", f"command {detail.root_id}")
    parts: list[RenderableType] = [facts]
    for delivery in detail.deliveries:
        parts += [Text(), _delivery(delivery, detail)]
    if detail.audit:
        parts += [Text(), render_audit(detail.audit, detail.at)]
    if payload:
        parts += [Text(), Text("payload", "dim")]
        parts.append(
            Text(json.dumps(detail.payload, indent=2, ensure_ascii=False), overflow="fold")
        )
    return Group(*parts)


def _delivery(delivery: MessageDelivery, detail: MessageDetail) -> Table:
    facts = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_header=False)
    facts.add_column(style="dim", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("consumer", Text(one_line(delivery.consumer)))
    state = Text(delivery.state.value, DELIVERY_MARKS[delivery.state][1])
    if delivery.done_at is not None:
        state.append(f" at {clock(delivery.done_at, detail.at)}", "dim")
    facts.add_row("state", state)
    facts.add_row("attempts", str(delivery.attempts))
    facts.add_row("rung", f"{delivery.rings} more time{'s' * (delivery.rings != 1)}")
    if delivery.yields:
        facts.add_row("gave way", f"{delivery.yields} time{'s' * (delivery.yields != 1)}")
    if delivery.last_error:
        facts.add_row("error", Text(one_line(delivery.last_error), "red"))
    return facts
