"""Trace tree: the causal record of a saga, drawn.

book_trip TRIP-00012 · compensated · 1.24 s · step payment: payments.declined
└─ saga.started
   └─ flights.reserve → flights ✓ 12 ms
      └─ flights.reserved → seating ✓ 8 ms
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from boundary.queries.saga_detail import SagaDetail
from boundary.queries.time_format import duration
from boundary.rendering.words import DELIVERY_MARKS, STATUS_STYLES, one_line
from internals.store.delivery import DeliveryOutcome, DeliveryState, WaitReason
from internals.store.trace import Node, Trace, TracedAct, TracedDelivery
from saga.envelope import Category
from saga.messages import Started
from saga.state import Phase

#: Columns after which a chain without branches is drawn straight down.
_DEEPEST = 42

#: Stands between words that a line is not broken at; printed as a space.
_GLUE = "\ue000"

#: What a revoked delivery's reason begins with; the state next to it says so already.
_REVOKED = "revoked: "

#: Seconds that are worth a word.
_SHORTEST = 0.0005

_WAITS: Mapping[WaitReason, str] = {
    WaitReason.ORDERING: ", behind another one of its key",
    WaitReason.BACKFILL: ", held until past events are there",
    WaitReason.FORWARDING: ", on its way to a database of its own",
    WaitReason.FORWARDED: ", in a database of its own",
}

_KIND_STYLES: Mapping[Category, str] = {
    Category.COMMAND: "bold",
    Category.EVENT: "",
    Category.REPLY: "dim",
    Category.TIMEOUT: "dim",
    Category.ACT: "bold magenta",
}


@dataclass(frozen=True, slots=True)
class TraceText:
    """A drawn trace: rich prints it within the console's width, `str` gives plain long lines."""

    #: The guides before a line, those before its continuations, and its text.
    lines: tuple[tuple[str, str, Text], ...]

    def __str__(self) -> str:
        return "\n".join(first + text.plain for first, _, text in self.lines).replace(_GLUE, " ")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for first, rest, text in self.lines:
            room = max(options.max_width - len(first), 24)
            guide = first
            for piece in text.wrap(console, room):
                piece.rstrip()
                piece.plain = piece.plain.replace(_GLUE, " ")
                yield Text.assemble((guide, "dim"), piece, no_wrap=True, overflow="ignore")
                guide = rest


def render_trace(trace: Trace, saga: SagaDetail | None = None, *, times: bool = False) -> TraceText:
    """Draw a trace.

    Args:
        trace: Of the saga, or of any message.
        saga: The saga it belongs to; makes the headline and marks compensations.
        times: Whether to say what each delivery waited for, and how long.
    """
    lines = [("", "  ", _saga_headline(saga) if saga else _headline(trace))]
    at = trace.at or datetime.now(UTC)
    lines.extend(
        (first, rest, _label(node, saga, at, times=times))
        for first, rest, node in _with_guides(trace)
    )
    if trace.truncated:
        lines.append(("", "", Text("The rest is left out: it is too long to draw.", "yellow")))
    return TraceText(tuple(lines))


def _with_guides(trace: Trace) -> Iterator[tuple[str, str, Node]]:
    """Each node with the guides before it, and before what hangs below it."""
    waiting: list[tuple[str, str, Node]] = []

    def hang(indent: str, children: tuple[Node, ...]) -> None:
        if len(indent) >= _DEEPEST:
            if len(children) == 1:
                waiting.append((f"{indent}↳ ", indent, children[0]))
                return
            indent += "  "
        for child in reversed(children):
            last = child is children[-1]
            waiting.append(
                (indent + ("└─ " if last else "├─ "), indent + ("   " if last else "│  "), child)
            )

    hang("", trace.roots)
    while waiting:
        first, below, node = waiting.pop()
        yield first, below + ("│  " if node.children else "   "), node
        hang(below, node.children)


def _saga_headline(detail: SagaDetail) -> Text:
    saga = detail.saga
    line = Text.assemble(
        (one_line(f"{saga.name} {saga.key or saga.id}"), "bold"),
        " · ",
        (saga.status.value, STATUS_STYLES[saga.status]),
        f" · {duration(saga.age)}",
    )
    if saga.reason:
        line.append(f" · {one_line(saga.reason)}")
    return line


def _headline(trace: Trace) -> Text:
    nodes = [node for _, node in trace.walk()]
    if not nodes:
        return Text("nothing was said", "dim")
    ends = [d.done_at for node in nodes for d in node.deliveries if d.done_at]
    begin = min(node.sent_at for node in nodes)
    line = Text.assemble((f"{nodes[0].kind} {nodes[0].id}", "bold"))
    line.append(f" · {len(nodes):,} message{'s' * (len(nodes) != 1)}")
    if ends:
        line.append(f" · {duration(max(ends) - begin)}")
    return line


def _label(node: Node, saga: SagaDetail | None, at: datetime, *, times: bool) -> Text:
    line = Text()
    _, phase = saga.commands.get(node.id, ("", None)) if saga else ("", None)
    if phase is Phase.COMPENSATING or node.undoes:
        line.append("↩ ", "magenta")
    line.append(f"undo {node.undoes}" if node.undoes else node.kind, _KIND_STYLES[node.category])
    if node.kind == Started.kind:
        if node.sender is not None:
            line.append(f" by {node.sender}, on message {node.causation_id}", "dim")
        if saga is None or saga.saga.id != node.saga_id:
            line.append(f": saga {node.saga_id}", "dim")
        if all(_is_plain(d) for d in node.deliveries):
            return line
    line.append(" → ", "dim")
    if not node.deliveries:
        line.append("nobody", "dim")
    for place, delivery in enumerate(node.deliveries):
        if place:
            line.append(", ", "dim")
        line.append_text(_delivery(delivery, node, at, times=times))
    line.append_text(_repeats(node))
    if node.origin is not None:
        line.append(f" · {from_outside(node.origin)}", "dim")
    return line


def from_outside(origin: Mapping[str, str]) -> str:
    """Say who an event was before a bridge took it in."""
    return one_line(f"came in by {origin['bridge']} as {origin['id']} of {origin['source']}")


def _repeats(node: Node) -> Text:
    return Text(f" · {repeated(node)}" if node.repeats else "", "dim")


def repeated(node: Node) -> str:
    """Say how often a message was sent again."""
    return f"sent {node.repeats} more time{'s' * (node.repeats != 1)}, dropped"


def _delivery(delivery: TracedDelivery, node: Node, at: datetime, *, times: bool) -> Text:
    mark, style = DELIVERY_MARKS[delivery.state]
    error = one_line(delivery.last_error or "")
    text = Text(f"{delivery.consumer}{_GLUE}")
    if delivery.outcome is DeliveryOutcome.REJECTED:
        text.append(f"✗ {error} ", "red")
    else:
        text.append(f"{mark}{_GLUE}", style)
    tried = f"{delivery.attempts} attempt{'s' * (delivery.attempts != 1)}"
    if delivery.state is DeliveryState.DONE:
        took = _times(delivery) if times else _took(delivery, node, at)
        text.append_text(_done(delivery, took, error, tried))
    elif delivery.state is DeliveryState.PARKED:
        text.append("parked", style)
        text.append_text(_past(delivery))
        text.append(f" after {tried}" if delivery.attempts else "", style)
        text.append(f": {error}" if error else "", "red")
    elif delivery.state is DeliveryState.PENDING:
        text.append(f"pending for {_took(delivery, node, at)}", style)
        text.append_text(_past(delivery))
        text.append_text(_pending(delivery, at, error, tried))
    else:
        text.append("revoked", style)
        text.append_text(_past(delivery))
        text.append(f": {error.removeprefix(_REVOKED)}" if error else "", style)
    if delivery.rings:
        text.append(f" (rung {delivery.rings} more time{'s' * (delivery.rings != 1)})", "dim")
    for act in delivery.acts:
        text.append(f" · {act_on_parked(act)}", "magenta")
    return text


def act_on_parked(act: TracedAct) -> str:
    """Say what an operator did with a parked delivery."""
    return one_line(f"{act.act} by {act.actor}: {act.reason}")


def _done(delivery: TracedDelivery, took: str, error: str, tried: str) -> Text:
    text = Text(took, "dim")
    text.append_text(_past(delivery))
    if delivery.outcome in (DeliveryOutcome.NO_UNDO, DeliveryOutcome.OVERRAN):
        text.append(f" {error}", "yellow")
    if delivery.attempts:
        text.append(f" after {tried} that failed", "yellow")
    if delivery.outcome is DeliveryOutcome.STALE:
        text.append(" no effect: came late or twice", "dim")
    return text


def _past(delivery: TracedDelivery) -> Text:
    """The mark of a past event that a new subscriber was handed, whatever became of it."""
    return Text(" backfill" if delivery.backfill else "", "cyan")


def _pending(delivery: TracedDelivery, at: datetime, error: str, tried: str) -> Text:
    text = Text()
    if delivery.wait_reason is not None:
        text.append(_WAITS[delivery.wait_reason])
        if delivery.wait_reason in (WaitReason.ORDERING, WaitReason.BACKFILL):
            return text
    if delivery.attempts:
        text.append(f", {tried} failed", "yellow")
    if delivery.wait_reason is None and delivery.due_at is not None and at < delivery.due_at:
        text.append(f", next in {duration(delivery.due_at - at)}", "yellow")
    text.append(f": {error}" if error else "", "red")
    return text


def _took(delivery: TracedDelivery, node: Node, at: datetime) -> str:
    return duration((delivery.done_at or at) - node.sent_at).replace(" ", _GLUE)


def _times(delivery: TracedDelivery) -> str:
    """What it waited for and how long; what seldom is waited for only where it was."""
    assert delivery.waits is not None
    told = {
        "due": delivery.waits.due >= _SHORTEST,
        "outbox": delivery.waits.outbox >= _SHORTEST,
        "handler": delivery.took is not None,
    }
    return ", ".join(
        f"{what} {duration(timedelta(seconds=seconds))}".replace(" ", _GLUE)
        for what, seconds in asdict(delivery.waits).items()
        if told.get(what, True)
    )


def delivery_text(delivery: TracedDelivery, node: Node, at: datetime) -> Text:
    """Say in one line what a message is and what became of one delivery of it."""
    text = Text(f"undo {node.undoes}" if node.undoes else node.kind, _KIND_STYLES[node.category])
    text.append(" → ", "dim")
    text.append_text(_delivery(delivery, node, at, times=False))
    text.append_text(_repeats(node))
    text.plain = text.plain.replace(_GLUE, " ")
    return text


def _is_plain(delivery: TracedDelivery) -> bool:
    return delivery.outcome is DeliveryOutcome.HANDLED
