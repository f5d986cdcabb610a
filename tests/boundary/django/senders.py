"""The three things that an application sends, and how to see that one was sent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Query = Callable[..., list[Any]]


@dataclass(frozen=True)
class Sender:
    """One of them.

    Args:
        send: Sends, by `using` if given.
        sent: How often it was.
    """

    send: Callable[..., Any]
    sent: Callable[[], int]


def sender(name: str, query: Query) -> Sender:
    """Return what sends this; a signal's saga is committed before."""
    from django.db import transaction
    from ledger.sagas import ASK, KEEP, Text
    from ledger.words import Approved, Noted

    from boundary.django import publish, signal, start

    def count(kind: str) -> Callable[[], int]:
        return lambda: query("SELECT count(*) FROM saga.outbox WHERE kind = %s", kind)[0][0]

    if name == "start":
        return Sender(
            lambda **using: start(KEEP, Text(text="a text"), **using), count("saga.started")
        )
    if name == "publish":
        return Sender(lambda **using: publish(Noted(text="a word"), **using), count("ledger.noted"))
    with transaction.atomic():
        id = start(ASK, Text(text="a question"))
    return Sender(lambda **using: signal(id, Approved(by="ann"), **using), count("desk.approved"))
