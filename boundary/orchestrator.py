"""The orchestrator: the consumer of one saga's outcomes.

It is a consumer like any other and keeps nothing in memory: every worker process has one, none
leads, and a saga's row is locked for as long as one hop takes.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from boundary.saga_rows import StoredSaga, columns
from internals.consumer import Handled
from internals.context_consumer import UNKNOWN_DELAY, later, park
from internals.failures import describe
from internals.inbox import (
    DELIVERY_COLUMNS,
    Delivery,
    DeliveryState,
    Inbox,
    Settlement,
    delivery,
)
from internals.outbox import Outbox
from internals.statements import Statements
from internals.unit_of_work import UnitOfWork
from saga.decide import Verdict, decide
from saga.definition import Saga
from saga.envelope import Envelope, saga_consumer
from saga.state import SagaState

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Batch:
    """What one hop leaves to be written."""

    states: dict[UUID, SagaState[Any]] = field(default_factory=dict)
    changed: set[UUID] = field(default_factory=set)
    settlements: list[Settlement] = field(default_factory=list)
    messages: list[Envelope] = field(default_factory=list)


class Orchestrator:
    """Folds outcomes through `decide` for all sagas of one name.

    Args:
        definitions: The saga's versions that this worker knows; all of one name.
        inbox: The saga's deliveries.
        outbox: Where its commands are written.
        statements: For the saga table.
    """

    def __init__(
        self,
        definitions: Iterable[Saga[Any]],
        inbox: Inbox,
        outbox: Outbox,
        statements: Statements,
    ) -> None:
        self._definitions = {saga.version: saga for saga in definitions}
        self._saga = next(iter(self._definitions.values())).name
        self.name = saga_consumer(self._saga)
        self._inbox = inbox
        self._outbox = outbox
        self._statements = statements

    def handle(self, unit: UnitOfWork, limit: int) -> Handled:
        rows = self._inbox.claim_with_sagas(unit, limit)
        batch = _Batch()
        absent: list[Delivery] = []
        for row in rows:
            stored = StoredSaga.from_row(row[DELIVERY_COLUMNS:])
            if stored is None:
                absent.append(delivery(row))
            else:
                self._fold(delivery(row), stored, batch)
        self._park_orphans(unit, absent, batch)
        if batch.changed:
            changed = [batch.states[id] for id in batch.changed]
            unit.run(self._statements.save_sagas, columns(changed))
        woken = self._outbox.send(unit, batch.messages)
        self._inbox.settle(unit, batch.settlements)
        settled = len(batch.settlements)
        more = len(rows) >= limit or settled < len(rows)
        return Handled(len(rows), settled, more, frozenset(woken))

    def _fold(self, delivery: Delivery, stored: StoredSaga, batch: _Batch) -> None:
        message = delivery.message
        saga = self._definitions.get(stored.version)
        if saga is None:
            error = f"this worker does not know version {stored.version} of {self._saga}"
            batch.settlements.append(later(delivery, error, UNKNOWN_DELAY))
            logger.warning("%s; saga %s is left for one that does", error, message.saga_id)
            return
        assert message.saga_id is not None
        try:
            state = batch.states.get(message.saga_id) or stored.state(saga, message.saga_id)
            decision = decide(saga, state, message)
            for sent in decision.send:
                self._outbox.check(sent)
        except Exception as error:
            # One of the definition's functions raised.  They are pure, so it would raise again.
            park(
                message,
                self.name,
                describe(error),
                delivery.attempts + 1,
                batch.settlements,
                batch.messages,
            )
            logger.exception("saga %s %s: %s parked", self._saga, message.saga_id, message.kind)
            return
        if decision.verdict is Verdict.UNEXPECTED:
            error_text = f"unexpected: nothing that saga {message.saga_id} sent leads to it"
            batch.settlements.append(Settlement(message.id, DeliveryState.PARKED, error=error_text))
            logger.error("%s: %s %s is parked as unexpected", self.name, message.kind, message.id)
            return
        if decision.state.status is not state.status:
            logger.debug("saga %s %s is %s", self._saga, message.saga_id, decision.state.status)
        batch.states[message.saga_id] = decision.state
        batch.changed.add(message.saga_id)
        batch.messages.extend(decision.send)
        note = None if decision.verdict is Verdict.APPLIED else str(decision.verdict)
        batch.settlements.append(
            Settlement(
                message.id,
                error=note,
                position=decision.state.consumed,
                attempts=delivery.attempts,
            )
        )

    def _park_orphans(self, unit: UnitOfWork, absent: list[Delivery], batch: _Batch) -> None:
        """Tell sagas that another transaction holds from sagas that do not exist."""
        if not absent:
            return
        ids = [delivery.message.saga_id for delivery in absent]
        existing = {id for (id,) in unit.run(self._statements.existing_sagas, {"id": ids})}
        for orphan in absent:
            message = orphan.message
            if message.saga_id in existing:
                continue  # left pending: the next hop finds it
            error = f"saga {message.saga_id} does not exist"
            batch.settlements.append(Settlement(message.id, DeliveryState.PARKED, error=error))
            logger.error("%s: %s %s is parked: %s", self.name, message.kind, message.id, error)
