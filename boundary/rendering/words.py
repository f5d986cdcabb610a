"""Words: how statuses, phases and deliveries look, everywhere alike."""

from collections.abc import Mapping

from rich.text import Text

from internals.store.delivery import DeliveryState
from saga.state import Phase, Status

STATUS_STYLES: Mapping[Status, str] = {
    Status.RUNNING: "cyan",
    Status.COMPENSATING: "yellow",
    Status.STUCK: "bold red",
    Status.COMPLETED: "green",
    Status.COMPENSATED: "magenta",
}

PHASE_STYLES: Mapping[Phase, str] = {
    Phase.COMMANDED: "cyan",
    Phase.WAITING: "cyan",
    Phase.REVOKING: "yellow",
    Phase.REVOKED: "dim",
    Phase.IN_DOUBT: "bold yellow",
    Phase.DONE: "green",
    Phase.SKIPPED: "dim",
    Phase.REJECTED: "red",
    Phase.REJECTED_LATE: "red",
    Phase.COMPENSATING: "yellow",
    Phase.COMPENSATED: "magenta",
}

#: A mark and its style for each state of a delivery.
DELIVERY_MARKS: Mapping[DeliveryState, tuple[str, str]] = {
    DeliveryState.PENDING: ("…", "yellow"),
    DeliveryState.DONE: ("✓", "green"),
    DeliveryState.REVOKED: ("∅", "dim"),
    DeliveryState.PARKED: ("✗", "bold red"),
}


def status_text(status: Status) -> Text:
    """Return a status in its colour."""
    return Text(status.value, style=STATUS_STYLES[status])


def one_line(text: str) -> str:
    """Return a text without line breaks, and without what would command a terminal."""
    return "".join(c if c.isprintable() else "\ufffd" for c in " ".join(text.split()))
