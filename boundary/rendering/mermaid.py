"""Mermaid: a trace as a sequence diagram, for a document or an issue."""

from collections.abc import Iterator, Mapping

from boundary.queries.time_format import duration
from boundary.rendering.trace_tree import act_on_parked, repeated
from internals.store.delivery import DeliveryState
from internals.store.trace import Node, Trace, TracedDelivery

#: Arrows that one diagram may have; a longer one says so, and nobody could read it.
MAX_ARROWS = 300

#: What Mermaid takes for more than text, as the entities that stand for it.
_ENTITIES = {ord(c): f"#{ord(c)};" for c in "#;<>{}:%"}


def mermaid(trace: Trace) -> str:
    """Return a trace as the text of a Mermaid sequence diagram, ending with a newline.

    Participants are consumers, in the order in which they were heard of; an arrow is a delivery.
    """
    names: dict[str, str] = {}
    arrows = list(_arrows(trace, names))
    lines = ["sequenceDiagram"]
    lines += [f"    participant {short} as {_text(name)}" for name, short in names.items()]
    lines += [f"    {line}" for line in arrows[:MAX_ARROWS]]
    if len(arrows) > MAX_ARROWS or trace.truncated:
        first = next(iter(names.values()))
        lines.append(f"    Note over {first}: the rest is left out, it is too long to draw")
    return "\n".join(lines) + "\n"


def _arrows(trace: Trace, names: dict[str, str]) -> Iterator[str]:
    def short(name: str) -> str:
        return names.setdefault(name, f"p{len(names) + 1}")

    for _, node in trace.walk():
        sender = short(node.sender or "host")
        what = f"undo {node.undoes}" if node.undoes else node.kind
        if not node.deliveries:
            yield f"{sender}-){sender}: {_text(what)} to nobody"
        if node.repeats:
            yield f"Note over {sender}: {_text(f'{what} {repeated(node)}')}"
        for delivery in node.deliveries:
            arrow = _ARROWS[delivery.state]
            to = short(delivery.consumer)
            yield f"{sender}{arrow}{to}: {_text(what + _took(delivery, node))}"
            if delivery.last_error:
                yield f"Note over {to}: {_text(delivery.last_error)}"
            for act in delivery.acts:
                yield f"Note over {to}: {_text(act_on_parked(act))}"


#: Solid for what is done, dotted for what is not.
_ARROWS: Mapping[DeliveryState, str] = {
    DeliveryState.DONE: "->>",
    DeliveryState.PENDING: "-->>",
    DeliveryState.REVOKED: "--)",
    DeliveryState.PARKED: "--x",
}


def _took(delivery: TracedDelivery, node: Node) -> str:
    past = ", backfill" if delivery.backfill else ""
    if delivery.state is DeliveryState.DONE and delivery.done_at is not None:
        return f" ({duration(delivery.done_at - node.sent_at)}{past})"
    return f" ({delivery.state.value}{past})"


def _text(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:120].translate(_ENTITIES)
