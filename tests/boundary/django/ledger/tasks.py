"""An actor of the host's own, on the host's own broker."""

import dramatiq
from ledger.models import Entry


@dramatiq.actor
def note(text: str) -> None:
    Entry.objects.create(text=text)
