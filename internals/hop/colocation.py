"""Colocation: sagas consume what is sent to them in the transaction that sends it.

An orchestrator that runs in the process of a context need not wait for a doorbell: its saga moves in
the context's own transaction, for half the commits.  What is stored is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

from internals.database.unit_of_work import UnitOfWork
from internals.store.outbox import Heard
from saga.envelope import Envelope, saga_consumer


@dataclass(frozen=True, slots=True)
class Folded:
    """What sagas made of messages that are sent by this transaction."""

    #: Those that were consumed, and how.
    heard: Mapping[UUID, Heard]
    messages: Sequence[Envelope]
    #: `saga_rows.saving` of the sagas.
    sagas: Mapping[str, object]
    #: To be called when all is written; returns further consumers that got something.
    then: Callable[[], set[str]]


class ColocatedSaga(Protocol):
    """The orchestrator of one saga, as the contexts of its process see it."""

    def fold(self, unit: UnitOfWork, messages: Sequence[Envelope]) -> Folded | None:
        """Consume what this transaction sends to sagas, as far as they can be locked now."""


@dataclass(frozen=True, slots=True)
class HopTransaction:
    """The transaction that a consumer works in, and the sagas that move in it by what it sends."""

    unit: UnitOfWork
    #: By consumer; empty where sagas are to hear of it by their own deliveries.
    colocated: Mapping[str, ColocatedSaga] = field(default_factory=dict)

    def fold(self, messages: Sequence[Envelope]) -> Folded | None:
        """Let the saga of which there are messages consume them; those of others go the long way."""
        for name, saga in self.colocated.items():
            sent = [message for message in messages if _is_for(message, name)]
            if sent:
                return saga.fold(self.unit, sent)
        return None


def _is_for(message: Envelope, consumer: str) -> bool:
    """Whether it goes to the saga of this name: a reply, or an event that its step awaits."""
    if message.recipient is not None or message.saga is None:
        return message.recipient == consumer
    return message.kind in message.awaits and saga_consumer(message.saga) == consumer
