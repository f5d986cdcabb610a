"""Following: `saga trace --follow`, what happens in a saga as it happens."""

import json as json_
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import typer
from rich.console import Console

from boundary.queries.time_format import clock
from boundary.rendering.trace_tree import delivery_text
from internals.store.delivery import DeliveryState
from internals.store.trace import Node, Trace, TracedAct, TracedDelivery

#: Seconds between two looks.
_PAUSE = 0.25

#: What of a delivery is told anew when it changes.
_Told = tuple[DeliveryState, int, str | None, tuple[TracedAct, ...], int]


def follow(read: Callable[[], tuple[Trace, bool]], *, json: bool) -> None:
    """Print each delivery when it comes and whenever it changes, until all is over.

    Args:
        read: Reads the trace, and whether what it belongs to is over.
        json: One JSON object a line, else one line for people.
    """
    told: dict[tuple[str, str], _Told] = {}
    console = Console(highlight=False, soft_wrap=True)
    while True:
        trace, over = read()
        at = trace.at or datetime.now(UTC)
        for node, delivery in _news(trace, told):
            if json:
                typer.echo(json_.dumps(_document(node, delivery)))
            else:
                moment = delivery.done_at or node.sent_at
                console.print(f"{clock(moment, at)} ", delivery_text(delivery, node, at), sep="")
        if over and all(_is_over(d) for _, node in trace.walk() for d in node.deliveries):
            return
        time.sleep(_PAUSE)


def _news(
    trace: Trace, told: dict[tuple[str, str], _Told]
) -> Iterator[tuple[Node, TracedDelivery]]:
    found = [(node, delivery) for _, node in trace.walk() for delivery in node.deliveries]
    found.sort(key=lambda each: each[0].sent_at)
    for node, delivery in found:
        key = (str(node.id), delivery.consumer)
        now = (delivery.state, delivery.attempts, delivery.last_error, delivery.acts, node.repeats)
        if told.get(key) != now:
            told[key] = now
            yield node, delivery


def _is_over(delivery: TracedDelivery) -> bool:
    return delivery.state is not DeliveryState.PENDING


def _document(node: Node, delivery: TracedDelivery) -> dict[str, object]:
    return {
        "message_id": str(node.id),
        "kind": node.kind,
        "undoes": node.undoes,
        "consumer": delivery.consumer,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "last_error": delivery.last_error,
        "sent_at": node.sent_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "took": delivery.took,
        "waits": asdict(delivery.waits) if delivery.waits else None,
        "backfill": delivery.backfill,
        "repeats": node.repeats,
        "acts": [asdict(act) for act in delivery.acts],
    }
