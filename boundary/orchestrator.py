"""The orchestrator: the consumer of one saga's outcomes.

It is a consumer like any other and keeps nothing in memory: every worker process has one, none
leads, and a saga's row is locked for as long as one hop takes.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from boundary.consequences import Consequences
from boundary.saga_rows import StoredSaga, data_to_json, saving
from internals.batch import Batch, finish
from internals.consumer import Handled
from internals.database import Database
from internals.failures import describe
from internals.inbox import (
    DELIVERY_COLUMNS,
    Delivery,
    DeliveryState,
    Inbox,
    Settlement,
    delivery,
)
from internals.leased import Leased
from internals.outbox import Outbox
from internals.statements import Statements
from internals.unit_of_work import Row, UnitOfWork
from saga.decide import Verdict, decide
from saga.definition import Saga
from saga.envelope import saga_consumer
from saga.errors import PayloadError
from saga.state import SagaState, Status

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Folding:
    """The sagas of one hop, as far as they are folded."""

    batch: Batch
    consequences: Consequences
    states: dict[UUID, SagaState[Any]] = field(default_factory=dict)
    data: dict[UUID, str] = field(default_factory=dict)

    def sagas(self) -> Iterator[tuple[SagaState[Any], str]]:
        """The sagas that were moved, with their data as it is stored."""
        return ((state, self.data[id]) for id, state in self.states.items())


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
        definitions: Mapping[int, Saga[Any]],
        inbox: Inbox,
        outbox: Outbox,
        statements: Statements,
    ) -> None:
        self._definitions = definitions
        self._saga = next(iter(definitions.values())).name
        self.name = saga_consumer(self._saga)
        self._inbox = inbox
        self._outbox = outbox
        self._statements = statements

    def handle(self, unit: UnitOfWork, limit: int) -> Handled:
        rows = self._claim(unit, limit)
        folding = _Folding(Batch(self.name), self._consequences())
        absent: list[Delivery] = []
        for row in rows:
            stored = StoredSaga.from_row(row[DELIVERY_COLUMNS:])
            if stored is None:
                absent.append(delivery(row))
            else:
                self._fold(delivery(row), stored, folding)
        batch = folding.batch
        self._park_orphans(unit, absent, batch)
        sagas = saving(self._saga, folding.sagas())
        woken = finish(unit, self._inbox, self._outbox, batch, sagas=sagas)
        # Sent by now: what one message of the batch commands, a later one may take back.
        woken |= self._outbox.send(unit, folding.consequences.carry_out(unit))
        woken |= folding.consequences.woken
        folding.consequences.clear_deadlines(unit)
        settled = len(batch.settlements)
        more = len(rows) >= limit or settled < len(rows)
        return Handled(len(rows), settled, more, woken)

    def _consequences(self) -> Consequences:
        return Consequences(self.name, self._statements, self._outbox.settling)

    def _claim(self, unit: UnitOfWork, limit: int) -> Sequence[Row]:
        """Claim; if sagas that others hold fill the batch, the rest need not wait for them."""
        found: dict[UUID, Row] = {}
        held: set[UUID] = set()
        while True:
            rows = self._inbox.claim_with_sagas(unit, limit, sorted(held))
            # What belongs to no saga is not passed over, and comes again.
            found.update((row[0], row) for row in rows)
            theirs = {id for row in rows if (id := delivery(row).message.saga_id) is not None}
            free = any(row[DELIVERY_COLUMNS] is not None for row in rows)
            if len(rows) < limit or free or theirs <= held:
                return list(found.values())
            held |= theirs

    def finish(self, database: Database, leased: Leased) -> frozenset[str]:
        raise AssertionError("an orchestrator leases nothing")

    def _fold(self, delivery: Delivery, stored: StoredSaga, folding: _Folding) -> None:
        message, batch = delivery.message, folding.batch
        saga = self._definitions.get(stored.version)
        if saga is None:
            error = f"this worker does not know version {stored.version} of {self._saga}"
            batch.leave(delivery, error)
            logger.warning("%s; saga %s is left for one that does", error, message.saga_id)
            return
        assert message.saga_id is not None
        try:
            state = folding.states.get(message.saga_id) or stored.state(saga, message.saga_id)
        except PayloadError as error:
            # A release that changed the data without a new version: left for one that fits.
            batch.leave(delivery, str(error))
            logger.error("saga %s %s cannot be read here", self._saga, message.saga_id)  # noqa: TRY400
            return
        try:
            decision = decide(saga, state, message)
            for sent in decision.send:
                self._outbox.check(sent)
            data = data_to_json(decision.state)
        except Exception as error:
            # One of the definition's functions raised.  They are pure, so it would raise again.
            batch.park(delivery, describe(error), attempts=delivery.attempts + 1)
            logger.exception("saga %s %s: %s parked", self._saga, message.saga_id, message.kind)
            return
        if decision.verdict is Verdict.UNEXPECTED:
            why = f"unexpected: nothing that saga {message.saga_id} sent leads to it"
            batch.settlements.append(Settlement(message.id, DeliveryState.PARKED, error=why))
            logger.error("%s: %s %s is parked as unexpected", self.name, message.kind, message.id)
            return
        if decision.state.status is not state.status:
            _log_status(decision.state, saga)
        folding.states[message.saga_id] = decision.state
        folding.data[message.saga_id] = data
        folding.consequences.note(decision, message)
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

    def _park_orphans(self, unit: UnitOfWork, absent: Iterable[Delivery], batch: Batch) -> None:
        """Tell sagas that another transaction holds from sagas that do not exist."""
        ids = [delivery.message.saga_id for delivery in absent]
        if not ids:
            return
        existing = {id for (id,) in unit.run(self._statements.existing_sagas, {"id": ids})}
        for orphan in absent:
            message = orphan.message
            if message.saga_id in existing:
                continue  # left pending: the next hop finds it
            error = f"saga {message.saga_id} does not exist"
            batch.settlements.append(Settlement(message.id, DeliveryState.PARKED, error=error))
            logger.error("%s: %s %s is parked: %s", self.name, message.kind, message.id, error)


def _log_status(state: SagaState[Any], saga: Saga[Any]) -> None:
    level = logging.WARNING if state.status is Status.STUCK else logging.DEBUG
    logger.log(level, "saga %s %s is %s", saga.name, state.id, state.status)
