"""Folding: what the messages of one hop make of their sagas, decided and not written yet."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from boundary.orchestration.delivery_changes import Consequences
from boundary.orchestration.saga_rows import StoredSaga, data_to_json
from internals.hop.batch import Batch
from internals.store.outbox import Outbox
from saga.decide import Decision, Verdict, decide
from saga.definition import Saga
from saga.envelope import Envelope
from saga.errors import PayloadError
from saga.state import SagaState, Status

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Folding:
    """The sagas of one hop, as far as they are folded."""

    batch: Batch
    consequences: Consequences
    states: dict[UUID, SagaState[Any]] = field(default_factory=dict)
    data: dict[UUID, str] = field(default_factory=dict)

    def of(self, saga_id: UUID | None, batch: Batch, consequences: Consequences) -> "Folding":
        """Return a folding of this saga alone, which goes on from here."""
        alone = Folding(batch, consequences)
        if saga_id is not None and saga_id in self.states:
            alone.states[saga_id], alone.data[saga_id] = self.states[saga_id], self.data[saga_id]
        return alone

    def sagas(self) -> Iterator[tuple[SagaState[Any], str]]:
        """The sagas that were moved, with their data as it is stored."""
        return ((state, self.data[id]) for id, state in self.states.items())


@dataclass(frozen=True, slots=True)
class Decided:
    """A decision that can be stored."""

    before: SagaState[Any]
    decision: Decision[Any]
    #: The data after it, as it is stored.
    data: str


class UnknownVersion(Exception):
    """Another worker may know it."""


class UnreadableState(Exception):
    """What is stored does not fit this worker's definition."""


class Deciding:
    """Decides for the sagas of one name, and gathers what follows.  Stateless.

    Args:
        saga: The name.
        definitions: The saga's versions that this worker knows.
        outbox: Checks that what is decided can be stored.
    """

    def __init__(self, saga: str, definitions: Mapping[int, Saga[Any]], outbox: Outbox) -> None:
        self._saga = saga
        self._definitions = definitions
        self._outbox = outbox

    def decide(self, message: Envelope, stored: StoredSaga, folding: Folding) -> Decided:
        """Return what becomes of the saga, checked to be storable; nothing is done yet.

        Raises `UnknownVersion`, `UnreadableState`, and whatever the definition's functions raise.
        """
        assert message.saga_id is not None
        saga = self._definitions.get(stored.version)
        if saga is None:
            raise UnknownVersion(
                f"this worker does not know version {stored.version} of {self._saga}"
            )
        state = folding.states.get(message.saga_id)
        if state is None:
            try:
                state = stored.state(saga, message.saga_id)
            except PayloadError as error:
                raise UnreadableState(str(error)) from error
        decision = decide(saga, state, message)
        for sent in decision.send:
            self._outbox.check(sent)
        data = data_to_json(decision.state)
        self._outbox.check_size(data, f"{self._saga}: the data after {message.kind}")
        if decision.state.early != state.early:
            kept = "".join(early.payload for early in decision.state.early)
            self._outbox.check_size(kept, f"{self._saga}: what came before it was waited for")
        return Decided(state, decision, data)

    def take(self, decided: Decided, message: Envelope, folding: Folding) -> tuple[int, str | None]:
        """Gather what a decision wants stored and sent; returns the message's place and a note."""
        assert message.saga_id is not None
        decision = decided.decision
        if decision.state.status is not decided.before.status:
            _log_status(decision.state, self._saga)
        folding.states[message.saga_id] = decision.state
        folding.data[message.saga_id] = decided.data
        folding.consequences.note(decision, message)
        folding.batch.messages.extend(decision.send)
        note = None if decision.verdict is Verdict.APPLIED else str(decision.verdict)
        return decision.state.consumed, note


def _log_status(state: SagaState[Any], saga: str) -> None:
    level = logging.WARNING if state.status is Status.STUCK else logging.DEBUG
    logger.log(level, "saga %s %s is %s", saga, state.id, state.status)
