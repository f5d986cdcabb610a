"""Returning: parcels go home from the database of a context that has its own.

1. There: claim parcels.
2. At home: settle their deliveries and write what their handlers sent, as a hop at home does, and
   commit.  So whatever is counted, ordered, undone or told to sagas is so at home alone.
3. There: commit that home knows.

Cut between the two commits, a parcel arrives twice.  The second finds that its delivery is not
pending any more; or, where an operator had it delivered again, that it is the parcel that parked it.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from internals.database.commit_points import Boundary
from internals.database.connections import Database
from internals.database.errors import describe, is_transient
from internals.database.lock_waits import KEY_WAIT, Crowd, GaveWay
from internals.database.unit_of_work import UnitOfWork
from internals.hop import Colocated, hop
from internals.hop.batch import Batch
from internals.hop.colocation import NOBODY, Folder
from internals.hop.consumer import Handled
from internals.hop.finish import finish
from internals.remote.results import Parcel, parcels_of
from internals.remote.statements import RemoteStatements
from internals.store.delivery import Delivery, DeliveryState, Settlement, delivery
from internals.store.inbox import Inbox
from internals.store.json_rows import records
from internals.store.open_deliveries import Closing
from internals.store.outbox import Outbox
from saga.causal import is_counted
from saga.errors import IdConflict

logger = logging.getLogger(__name__)

#: Seconds until a parcel that home cannot take is offered again; it doubles up to the second.
_SHORTEST_DELAY = 1.0
_LONGEST_DELAY = 300.0


@dataclass(frozen=True, slots=True)
class _Arriving:
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
        """Whether it was taken back and no handler that acts outside was started."""
        return self.parcel.settlement.state is DeliveryState.REVOKED and not self.started

    @property
    def parked(self) -> bool:
        """Whether the delivery is."""
        return self.parcel.settlement.state is DeliveryState.PARKED


class Returner:
    """The consumer of a context's parcels, in its own database.

    Args:
        home: Where the parcels go.
        parcels: The inbox of the parcels, there.
        inbox: The context's deliveries at home.
        outbox: Home's, without a limit on payloads: they were looked at when they were sent.
        statements: For the schema, which is called the same in both databases.
        colocated: Sagas of this process, which hear of their steps in home's transactions.
    """

    def __init__(
        self,
        home: Database,
        parcels: Inbox,
        inbox: Inbox,
        outbox: Outbox,
        statements: RemoteStatements,
        colocated: Mapping[str, Colocated],
    ) -> None:
        self.name = parcels_of(inbox.consumer)
        self._home = home
        self._parcels = parcels
        self._inbox = inbox
        self._outbox = outbox
        self._statements = statements
        self._colocated = colocated
        self._crowd = Crowd()

    def handle(
        self,
        unit: UnitOfWork,
        limit: int,
        folders: Mapping[str, Folder] = NOBODY,
    ) -> Handled:
        """Take parcels home; `woken` are consumers there, for what is committed there by now."""
        # One batch at a time, and none beside it: of what two took home one might overtake the other.
        deliveries, size = self._parcels.claim(unit, max(limit, 2), beside=0)
        if not size:
            return Handled(more=True, missed=True)
        if not deliveries:
            return Handled()
        arriving = self._open(unit, deliveries)
        settled = [Settlement(each.id) for each in arriving]
        try:
            woken = self._arrive(arriving)
        except Exception as error:
            if _stops(error):
                raise
            woken, settled = self._one_by_one(arriving)
        self._parcels.settle(unit, settled)
        return Handled(len(deliveries), len(deliveries), len(deliveries) >= size, woken)

    def _open(self, unit: UnitOfWork, deliveries: Sequence[Delivery]) -> list[_Arriving]:
        parcels = [Parcel.from_json(claimed.message.payload) for claimed in deliveries]
        ended = [
            parcel.settlement.message_id
            for parcel in parcels
            if parcel.settlement.state in (DeliveryState.PARKED, DeliveryState.REVOKED)
        ]
        asked = {"id": ended, "consumer": self._inbox.consumer}
        started = {id for (id,) in unit.run(self._statements.started, asked)} if ended else set()
        return [
            _Arriving(claimed, parcel, parcel.settlement.message_id in started)
            for claimed, parcel in zip(deliveries, parcels, strict=True)
        ]

    def _arrive(self, arriving: Sequence[_Arriving]) -> frozenset[str]:
        """Commit parcels at home; returns the consumers to ring."""
        arrival = _Arrival(
            arriving, self._inbox, self._outbox, self._statements, self._crowd.key_wait
        )
        try:
            return self._commit(arrival, self._colocated)
        except Exception as error:
            if isinstance(error, GaveWay):
                self._crowd.gave_way()
            if not self._colocated:
                raise
            # A saga's trouble must not become that of a context.
            logger.info("%s: applied again: %s", self.name, type(error).__name__)
        return self._commit(replace(arrival, key_wait=self._crowd.key_wait), {})

    def _arrive_or_park(self, each: _Arriving) -> frozenset[str]:
        """Commit a parcel; where another message has the id of one it sent, its delivery is parked."""
        try:
            return self._arrive([each])
        except IdConflict as error:
            logger.error("%s: %s", self.name, error)  # noqa: TRY400 - it says all there is to say
            return self._arrive([replace(each, refused=error)])

    def _commit(self, arrival: "_Arrival", colocated: Mapping[str, Colocated]) -> frozenset[str]:
        return hop(self._home, arrival, len(arrival.arriving), colocated, Boundary.RETURN).woken

    def _one_by_one(self, arriving: Sequence[_Arriving]) -> tuple[frozenset[str], list[Settlement]]:
        """Keep what home cannot take from holding up the rest: it is offered again later."""
        woken: frozenset[str] = frozenset()
        settled = []
        for each in arriving:
            try:
                woken |= self._arrive_or_park(each)
                settled.append(Settlement(each.id))
            except Exception as error:
                if _stops(error):
                    raise
                waits = isinstance(error, GaveWay)
                attempts = each.delivery.attempts + (not waits)
                delay = min(_SHORTEST_DELAY * 2.0 ** min(attempts, 16), _LONGEST_DELAY)
                settled.append(
                    Settlement(
                        each.id,
                        DeliveryState.PENDING,
                        error=describe(error),
                        attempts=attempts,
                        delay=delay,
                    )
                )
                of = each.parcel.settlement.message_id
                logger.log(
                    logging.INFO if waits else logging.ERROR,
                    "%s: the parcel of %s cannot be applied",
                    self.name,
                    of,
                    exc_info=not waits,
                )
        return woken, settled


def _stops(error: Exception) -> bool:
    """Whether home takes no parcel now; where one waits for a lock the others need not."""
    return is_transient(error) and not isinstance(error, GaveWay)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """Parcels, as a consumer at home."""

    arriving: Sequence[_Arriving]
    inbox: Inbox
    outbox: Outbox
    statements: RemoteStatements
    key_wait: str = KEY_WAIT

    @property
    def name(self) -> str:
        return self.inbox.consumer

    def handle(
        self,
        unit: UnitOfWork,
        limit: int,
        folders: Mapping[str, Folder] = NOBODY,
    ) -> Handled:
        """Settle the parcels' deliveries, and send what they hold."""
        batch = Batch(self.name, key_wait=self.key_wait)
        failed: list[Settlement] = []
        refused: list[tuple[UUID, _Arriving]] = []
        parked: list[_Arriving] = []
        untouched: list[_Arriving] = []
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
        woken = finish(unit, self.inbox, self.outbox, batch, folders=folders)
        self._remember(unit, parked)
        return Handled(woken=woken)

    def _given_up(self, unit: UnitOfWork, awaited: Collection[UUID]) -> Collection[UUID]:
        """Return what failed there for good, and was given up here before that was known."""
        ids = {each.parcel.settlement.message_id for each in self.arriving if each.parked}
        ids &= set(awaited)
        return self.inbox.given_up(unit, ids) if ids else ()

    def _give_up(self, unit: UnitOfWork, id: UUID, each: _Arriving, batch: Batch) -> None:
        settlement = each.parcel.settlement
        for row in unit.run(self.statements.at_home, {"id": id, "consumer": self.name}):
            found = replace(delivery(row), attempts=settlement.attempts, started=each.started)
            batch.give_up(found, settlement.error, took=settlement.took)

    def _refuse(
        self, unit: UnitOfWork, refused: Sequence[tuple[UUID, _Arriving]], batch: Batch
    ) -> None:
        """Park deliveries whose handlers sent what cannot be sent, and tell their sagas."""
        for id, each in refused:
            asked = {"id": id, "consumer": self.name}
            for row in unit.run(self.statements.at_home, asked):
                assert each.refused is not None
                attempts = each.parcel.settlement.attempts + 1
                batch.park(delivery(row), describe(each.refused), attempts=attempts, external=True)

    def _note(self, unit: UnitOfWork, failed: Sequence[Settlement]) -> None:
        if failed:
            notes = records(
                {
                    "id": s.message_id,
                    "consumer": self.name,
                    "attempts": s.attempts,
                    "error": s.error,
                    "took": s.took,
                }
                for s in failed
            )
            unit.run(self.statements.note, {"notes": notes, "consumer": self.name})

    def _tell_untouched(self, unit: UnitOfWork, parked: Sequence[_Arriving]) -> None:
        if parked:
            ids = [each.parcel.settlement.message_id for each in parked]
            unit.run(self.statements.untouched, {"id": ids, "consumer": self.name})

    def _remember(self, unit: UnitOfWork, parked: Sequence[_Arriving]) -> None:
        if parked:
            applied = records(
                {"id": each.parcel.settlement.message_id, "consumer": self.name, "parcel": each.id}
                for each in parked
            )
            unit.run(self.statements.remember, {"parked": applied, "consumer": self.name})
