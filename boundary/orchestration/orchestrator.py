"""The orchestrator: the consumer of one saga's outcomes.

It is a consumer like any other and keeps nothing in memory: every worker process has one, none
leads, and a saga's row is locked for as long as one hop takes.
"""

import logging
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import UUID

from boundary.orchestration.delivery_changes import Consequences
from boundary.orchestration.folding import Deciding, Folding, UnknownVersion, UnreadableState
from boundary.orchestration.saga_rows import StoredSaga, saving
from internals.database.errors import describe, is_transient
from internals.database.unit_of_work import Row, UnitOfWork
from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.colocation import Folded, HopTransaction
from internals.hop.consumer import Handled, Unprotected
from internals.hop.unhandled import UNREADABLE, Left
from internals.store.delivery import (
    DELIVERY_COLUMNS,
    Delivery,
    DeliveryOutcome,
    DeliveryState,
    Settlement,
    delivery,
)
from internals.store.json_rows import records
from internals.store.outbox import Heard
from internals.store.sql import Statements
from saga.decide import Verdict
from saga.definition import Saga
from saga.envelope import Envelope, saga_consumer
from saga.errors import UnreadableMessage

logger = logging.getLogger(__name__)


class Orchestrator:
    """Folds outcomes through `decide` for all sagas of one name.

    Args:
        definitions: The saga's versions that this worker knows; all of one name.
        writer: Writes what becomes of the saga's deliveries.
        statements: For the saga table.
    """

    def __init__(
        self,
        definitions: Mapping[int, Saga[Any]],
        writer: BatchWriter,
        statements: Statements,
    ) -> None:
        self._saga = next(iter(definitions.values())).name
        self._deciding = Deciding(self._saga, definitions, writer.outbox)
        self.name = saga_consumer(self._saga)
        self._writer = writer
        self._inbox = writer.inbox
        self._outbox = writer.outbox
        self._statements = statements
        #: Whether this thread's last hop could not be written, for no passing reason.
        self._refused = threading.local()
        self._left = Left(self.name)

    def handle(self, hop: HopTransaction, limit: int) -> Handled:
        unit = hop.unit
        one_by_one = self._refused.__dict__.pop("before", False)
        rows = self._claim(unit, limit)
        present: list[tuple[Delivery, StoredSaga]] = []
        absent: list[Delivery] = []
        for row in rows:
            stored = StoredSaga.from_row(row[DELIVERY_COLUMNS:])
            if stored is None:
                absent.append(delivery(row))
            else:
                present.append((delivery(row), stored))
        orphans = Batch(self.name)
        self._park_orphans(unit, absent, orphans)
        woken = self._writer.write(HopTransaction(unit), orphans)
        fold = self._fold_one_by_one if one_by_one else self._fold_all
        settled, got = fold(unit, present)
        settled += len(orphans.settlements)
        more = len(rows) >= limit or settled < len(rows)
        return Handled(len(rows), settled, more, woken | got)

    def _fold_all(
        self, unit: UnitOfWork, claimed: Sequence[tuple[Delivery, StoredSaga]]
    ) -> tuple[int, frozenset[str]]:
        """Fold deliveries and write them together; returns how many are settled, and the woken.

        Raises `Unprotected` if the database refuses what is written: the next hop of this thread
        then finds the delivery that it belongs to.
        """
        folding = self._folding()
        for each, stored in claimed:
            self._fold(each, stored, folding)
        try:
            woken = self._write(unit, folding)
        except Exception as error:
            if unit.lost or is_transient(error):
                raise
            self._refused.before = True
            raise Unprotected from error
        return len(folding.batch.settlements), woken

    def _fold_one_by_one(
        self, unit: UnitOfWork, claimed: Sequence[tuple[Delivery, StoredSaga]]
    ) -> tuple[int, frozenset[str]]:
        """The same, each delivery within a savepoint: one that is refused is parked alone."""
        folded = self._folding()
        settled, woken = 0, frozenset[str]()
        for each, stored in claimed:
            folding = folded.of(each.message.saga_id, Batch(self.name), self._consequences())
            try:
                with unit.savepoint():
                    self._fold(each, stored, folding)
                    woken |= self._write(unit, folding)
            except Exception as error:
                if unit.lost or is_transient(error):
                    raise
                folding = self._folding()
                attempts, outcome = each.attempts + 1, DeliveryOutcome.parked_for(error)
                folding.batch.park(each, describe(error), outcome=outcome, attempts=attempts)
                logger.exception(
                    "saga %s %s: %s is parked, since what follows from it cannot be written",
                    self._saga,
                    each.message.saga_id,
                    each.message.kind,
                )
                woken |= self._write(unit, folding)
            settled += len(folding.batch.settlements)
            folded.states |= folding.states
            folded.data |= folding.data
        return settled, woken

    def _write(self, unit: UnitOfWork, folding: Folding) -> frozenset[str]:
        sagas = saving(self._saga, folding.sagas())
        woken = self._writer.write(HopTransaction(unit), folding.batch, sagas=sagas)
        return woken | self._follow_up(unit, folding)

    def fold(self, unit: UnitOfWork, messages: Sequence[Envelope]) -> Folded | None:
        """Consume what this transaction sends; the caller writes what becomes of it.

        A message is left to be delivered, and told of then, where another hop holds the saga or
        anything is wrong with it.
        """
        ids = records({"id": message.saga_id} for message in messages)
        rows = unit.run(self._statements.hold_sagas, {"ids": ids})
        if not rows:
            return None
        held = {row[0]: StoredSaga(*row[1:]) for row in rows}
        folding = self._folding()
        heard = {}
        for message in messages:
            stored = None if message.saga_id is None else held.get(message.saga_id)
            if stored is None:
                continue
            try:
                decided = self._deciding.decide(message, stored, folding)
            except Exception:
                logger.debug("%s is delivered, and fails then", message.kind, exc_info=True)
                continue
            if decided.decision.verdict is not Verdict.UNEXPECTED:
                position, note = self._deciding.take(decided, message, folding)
                heard[message.id] = Heard(position, note)
        return Folded(
            heard,
            folding.batch.messages,
            saving(self._saga, folding.sagas()),
            lambda: self._follow_up(unit, folding),
        )

    def _folding(self) -> Folding:
        return Folding(Batch(self.name), self._consequences())

    def _follow_up(self, unit: UnitOfWork, folding: Folding) -> set[str]:
        """Do what decisions want done to deliveries that exist; returns the consumers to ring."""
        consequences = folding.consequences
        # Sent by now: what one message of the batch commands, a later one may revoke.
        woken = self._outbox.send(unit, consequences.carry_out(unit))
        consequences.clear_deadlines(unit)
        return woken | consequences.woken

    def _consequences(self) -> Consequences:
        return Consequences(self.name, self._statements, self._outbox.open_deliveries)

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

    def _fold(self, delivery: Delivery, stored: StoredSaga, folding: Folding) -> None:
        message, batch = delivery.message, folding.batch
        try:
            decided = self._deciding.decide(message, stored, folding)
        except (UnknownVersion, UnreadableState) as error:
            # Another release has the version, the step, or a class that fits: left for it.
            why = str(error)
            batch.leave_to_others(delivery, why, delay=self._left.delay(message.kind, why))
            return
        except UnreadableMessage as error:
            why = f"{UNREADABLE}{error}"
            batch.leave_to_others(delivery, why, delay=self._left.delay(message.kind, why))
            return
        except Exception as error:
            # One of the definition's functions raised.  They are pure, so it would raise again.
            attempts, outcome = delivery.attempts + 1, DeliveryOutcome.parked_for(error)
            batch.park(delivery, describe(error), outcome=outcome, attempts=attempts)
            logger.exception("saga %s %s: %s parked", self._saga, message.saga_id, message.kind)
            return
        if decided.decision.verdict is Verdict.UNEXPECTED:
            why = f"unexpected: nothing that saga {message.saga_id} sent leads to it"
            batch.settlements.append(_unexpected(message.id, why))
            logger.error("%s: %s %s is parked as unexpected", self.name, message.kind, message.id)
            return
        position, note = self._deciding.take(decided, message, folding)
        batch.settlements.append(
            Settlement(
                message.id,
                outcome=DeliveryOutcome(note or DeliveryOutcome.HANDLED),
                error=note,
                position=position,
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
            batch.settlements.append(_unexpected(message.id, error))
            logger.error("%s: %s %s is parked: %s", self.name, message.kind, message.id, error)


def _unexpected(id: UUID, error: str) -> Settlement:
    return Settlement(id, DeliveryState.PARKED, DeliveryOutcome.UNEXPECTED, error=error)
