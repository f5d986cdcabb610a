"""Handlers that do to their transaction whatever a test asks for."""

from collections.abc import Callable
from datetime import timedelta

from ledger.models import Entry
from ledger.words import Noted, Settle, Undo, Write

from internals import Context, Work
from saga import Rejected, Retry

ledger = Context("ledger")
gossip = Context("gossip")

#: What a handler does when the text names it; tests put functions here.
TRICKS: dict[str, Callable[[Work], None]] = {}


@ledger.handles(Write, retry=Retry(attempts=2, backoff=timedelta(minutes=1)))
def write(command: Write, work: Work) -> None:
    Entry.objects.create(text=command.text)
    if command.text in TRICKS:
        TRICKS[command.text](work)
    if command.text.startswith("no "):
        raise Rejected("the ledger takes no such thing")


@ledger.handles(Undo)
def undo(command: Undo, work: Work) -> None:
    Entry.objects.filter(text=command.text).delete()


@ledger.handles(Settle, retry=Retry(attempts=1))
def settle(command: Settle, work: Work) -> None:
    if command.text.startswith("bug"):
        raise RuntimeError("a bug <b>in</b> the ledger")


@gossip.reacts_to(Noted, retry=Retry(attempts=3, backoff=timedelta(0)))
def tell(event: Noted, work: Work) -> None:
    if event.text in TRICKS:
        TRICKS[event.text](work)
    if work.connection.alias == "default":  # another one's entries are for the tests to write
        Entry.objects.create(text=f"heard of {event.text}")
