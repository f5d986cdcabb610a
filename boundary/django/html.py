"""HTML: what `boundary.rendering` draws, escaped and coloured by classes; and the timeline."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from rich.console import Console
from rich.style import Style
from rich.text import Text

from boundary.queries.time_format import duration
from boundary.rendering import TraceText
from internals.store.trace import Trace

_CONSOLE = Console(force_terminal=False, width=10_000)

#: Columns of a label before it is cut.
_LABEL = 48


@dataclass(frozen=True, slots=True)
class Bar:
    """One delivery in a timeline; places are percentages of its width."""

    label: str
    consumer: str
    state: str
    left: float
    width: float
    took: str
    error: str | None


def text_html(text: Text) -> SafeString:
    """Return a styled text as escaped HTML: styles become classes, such as ``saga-green``."""
    line = text.copy()
    line.end = ""
    return format_html_join(
        "",
        '<span class="{}">{}</span>',
        ((_classes(piece.style), piece.text) for piece in line.render(_CONSOLE)),
    )


def trace_html(drawn: TraceText) -> SafeString:
    """Return a drawn trace, a line for each message; the page itself is its headline."""
    return format_html_join(
        "",
        '<div class="saga-line"><span class="saga-dim">{}</span>{}</div>',
        ((first, _unglued(text_html(text))) for first, _, text in drawn.lines[1:]),
    )


def timeline(trace: Trace, limit: int) -> list[Bar]:
    """Return when each delivery was sent and done, in order of sending, `limit` at most."""
    nodes = [node for _, node in trace.walk()]
    if not nodes or trace.at is None:
        return []
    begin = min(node.sent_at for node in nodes)
    ends = [d.done_at or trace.at for node in nodes for d in node.deliveries]
    length = max([*ends, begin + timedelta(milliseconds=1)]) - begin

    def place(moment: datetime) -> float:
        return max(0.0, min(100.0, 100 * ((moment - begin) / length)))

    found = [(node, delivery) for node in nodes for delivery in node.deliveries]
    found.sort(key=lambda pair: (pair[0].sent_at, pair[0].id))
    bars = []
    for node, delivery in found[:limit]:
        end = delivery.done_at or trace.at
        left = min(place(node.sent_at), 99.5)
        bars.append(
            Bar(
                label=node.kind if len(node.kind) <= _LABEL else f"{node.kind[:_LABEL]}…",
                consumer=delivery.consumer,
                state=delivery.state.value,
                left=round(left, 3),
                width=round(max(place(end) - left, 0.5), 3),
                took=duration(end - node.sent_at),
                error=delivery.last_error,
            )
        )
    return bars


def pill(status: str) -> SafeString:
    """Return a status in its colour."""
    return format_html('<span class="saga-status saga-status-{}">{}</span>', status, status)


def _classes(style: Style | str | None) -> str:
    if not isinstance(style, Style):
        return ""
    found = [f"saga-{style.color.name}"] if style.color else []
    found += ["saga-bold"] if style.bold else []
    found += ["saga-dim"] if style.dim else []
    return " ".join(found)


def _unglued(html: SafeString) -> SafeString:
    """Without the marks that keep words of a terminal's line together; a space is as safe."""
    return SafeString(html.replace("\ue000", " "))
