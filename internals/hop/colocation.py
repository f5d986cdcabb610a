"""Colocation: sagas consume what is sent to them in the transaction that sends it.

An orchestrator that runs in the process of a context need not wait for a doorbell: its saga moves in
the context's own transaction, for half the commits.  What is stored is the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from internals.database.unit_of_work import UnitOfWork
from internals.store.outbox import Heard
from saga.envelope import Envelope


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


class Folder(Protocol):
    """The orchestrator of one saga, as the contexts of its process see it."""

    def fold(self, unit: UnitOfWork, messages: Sequence[Envelope]) -> Folded | None:
        """Consume what this transaction sends to sagas, as far as they can be locked now."""


#: No saga is told at once.
NOBODY: Mapping[str, Folder] = {}
