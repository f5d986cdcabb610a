"""Arrival: what parcels do at home, in one transaction there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from internals.database.errors import describe
from internals.database.lock_waits import KEY_WAIT
from internals.database.unit_of_work import UnitOfWork
from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.colocation import HopTransaction
from internals.hop.consumer import Handled
from internals.remote.results import Parcel
from internals.remote.statements import RemoteStatements
from internals.store.delivery import (
    Delivery,
    DeliveryOutcome,
    DeliveryState,
    Settlement,
    delivery,
)
from internals.store.inbox import Inbox
from internals.store.json_rows import records
from internals.store.open_deliveries import Closing
from internals.store.outbox import Outbox
from saga.causal import is_counted
from saga.errors import IdConflict


@dataclass(frozen=True, slots=True)
class Arriving:
    """A parcel that was claimed."""

    delivery: Delivery
    parcel: Parcel
    #: Of a parked or revoked delivery, whether its handler acts outside and was started.
    started: bool
    #: Why home does not take what it sent: its delivery is parked then.
    refused: IdConflict | None = None

    @property
    def id(self) -> UUID:
        """The parcel's own."""
        return self.delivery.message.id

    @property
    def untouched(self) -> bool:
        """Whether it was revoked and no handler that acts outside was started."""
        return self.parcel.settlement.state is DeliveryState.REVOKED and not self.started

    @property
    def parked(self) -> bool:
        """Whether the delivery is."""
        return self.parcel.settlement.state is DeliveryState.PARKED


@dataclass(frozen=True, slots=True)
class Arrival:
    """Parcels, as a consumer at home."""

    arriving: Sequence[Arriving]
    inbox: Inbox
    outbox: Outbox
    statements: RemoteStatements
    key_wait: str = KEY_WAIT

    @property
    def name(self) -> str:
        """The context's."""
        return self.inbox.consumer

    def handle(self, hop: HopTransaction, limit: int) -> Handled:
        """Settle the parcels' deliveries, and send what they hold."""
        unit = hop.unit
        batch = Batch(self.name, key_wait=self.key_wait)
        failed: list[Settlement] = []
        refused: list[tuple[UUID, Arriving]] = []
        parked: list[Arriving] = []
        untouched: list[Arriving] = []
        ids = [each.parcel.settlement.message_id for each in self.arriving]
        rows = unit.run(self.statements.awaited, {"id": ids, "consumer": self.name})
        awaited = {id: found for id, *found in rows}
        given_up = self._given_up(unit, awaited)
        for id, each in zip(ids, self.arriving, strict=True):
            if id not in awaited:
                continue  # it arrived before
            key, applied, root_id, awaits = awaited[id]
            if applied == each.id:
                continue  # it did too, and an operator has had it delivered again since
            if each.parcel.settlement.state is DeliveryState.PENDING:
                failed.append(each.parcel.settlement)
                continue
            if each.refused is not None:
                refused.append((id, each))
                continue
            if id in given_up:
                self._give_up(unit, id, each, batch)
                continue
            batch.settlements.append(each.parcel.settlement)
            batch.messages.extend(each.parcel.sent)
            if is_counted(tuple(awaits)):
                quiet = each.parcel.refuses
                batch.closed.append(Closing(root_id, id, closes=not each.parked, quiet=quiet))
            if each.untouched:
                untouched.append(each)
            if each.parked:
                parked.append(each)
            elif key is not None:
                batch.keys.add(key)
        self._refuse(unit, refused, batch)
        self._note(unit, failed)
        # Before anything is undone by what arrives.
        self._tell_untouched(unit, [*(e for e in parked if not e.started), *untouched])
        woken = BatchWriter(self.inbox, self.outbox).write(hop, batch)
        self._remember(unit, parked)
        return Handled(woken=woken)

    def _given_up(self, unit: UnitOfWork, awaited: Collection[UUID]) -> Collection[UUID]:
        """Return what failed there for good, and was given up here before that was known."""
        ids = {each.parcel.settlement.message_id for each in self.arriving if each.parked}
        ids &= set(awaited)
        return self.inbox.given_up(unit, ids) if ids else ()

    def _give_up(self, unit: UnitOfWork, id: UUID, each: Arriving, batch: Batch) -> None:
        settlement = each.parcel.settlement
        for row in unit.run(self.statements.at_home, {"id": id, "consumer": self.name}):
            found = replace(delivery(row), attempts=settlement.attempts, started=each.started)
            batch.give_up(found, settlement.error, took=settlement.took)

    def _refuse(
        self, unit: UnitOfWork, refused: Sequence[tuple[UUID, Arriving]], batch: Batch
    ) -> None:
        """Park deliveries whose handlers sent what cannot be sent, and tell their sagas."""
        for id, each in refused:
            asked = {"id": id, "consumer": self.name}
            for row in unit.run(self.statements.at_home, asked):
                assert each.refused is not None
                attempts = each.parcel.settlement.attempts + 1
                batch.park(
                    delivery(row),
                    describe(each.refused),
                    outcome=DeliveryOutcome.parked_for(each.refused),
                    attempts=attempts,
                    external=True,
                )

    def _note(self, unit: UnitOfWork, failed: Sequence[Settlement]) -> None:
        if failed:
            notes = records(
                {
                    "id": s.message_id,
                    "consumer": self.name,
                    "attempts": s.attempts,
                    "outcome": s.outcome.value,
                    "error": s.error,
                    "took": s.took,
                }
                for s in failed
            )
            unit.run(self.statements.note, {"notes": notes, "consumer": self.name})

    def _tell_untouched(self, unit: UnitOfWork, parked: Sequence[Arriving]) -> None:
        if parked:
            ids = [each.parcel.settlement.message_id for each in parked]
            unit.run(self.statements.untouched, {"id": ids, "consumer": self.name})

    def _remember(self, unit: UnitOfWork, parked: Sequence[Arriving]) -> None:
        if parked:
            applied = records(
                {"id": each.parcel.settlement.message_id, "consumer": self.name, "parcel": each.id}
                for each in parked
            )
            unit.run(self.statements.remember, {"parked": applied, "consumer": self.name})
