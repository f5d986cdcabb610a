"""Returning: parcels go home from the database of a context that has its own.

1. There: claim parcels.
2. At home: settle their deliveries and write what their handlers sent, as a hop at home does, and
   commit.  So whatever is counted, ordered, undone or told to sagas is so at home alone.
3. There: commit that home knows.

Cut between the two commits, a parcel arrives twice.  The second finds that its delivery is not
pending any more; or, where an operator had it delivered again, that it is the parcel that parked it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from internals.database.commit_points import Boundary
from internals.database.connections import Database
from internals.database.errors import describe, is_transient
from internals.database.lock_waits import Crowd, GaveWay
from internals.database.unit_of_work import UnitOfWork
from internals.hop import Colocated, hop
from internals.hop.colocation import HopTransaction
from internals.hop.consumer import Handled
from internals.remote.arrival import Arrival, Arriving
from internals.remote.results import Parcel, parcels_of
from internals.remote.statements import RemoteStatements
from internals.store.delivery import Delivery, DeliveryOutcome, DeliveryState, Settlement
from internals.store.inbox import Inbox
from internals.store.outbox import Outbox
from saga.backoff import Backoff
from saga.errors import IdConflict

logger = logging.getLogger(__name__)

#: Until a parcel that home cannot take is offered again.
_BACKOFF = Backoff(1.0, cap=300.0)


class Returner:
    """The consumer of a context's parcels, in its own database.

    Args:
        home: Where the parcels go.
        parcels: The inbox of the parcels, there.
        inbox: The context's deliveries at home.
        outbox: Home's, without a limit on payloads: they were looked at when they were sent.
        statements: For the schema, which is called the same in both databases.
        colocated: Sagas of this process, which consume outcomes in home's transactions.
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

    def handle(self, hop: HopTransaction, limit: int) -> Handled:
        """Take parcels home; `woken` are consumers there, for what is committed there by now."""
        unit = hop.unit
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

    def _open(self, unit: UnitOfWork, deliveries: Sequence[Delivery]) -> list[Arriving]:
        parcels = [Parcel.from_json(claimed.message.payload) for claimed in deliveries]
        ended = [
            parcel.settlement.message_id
            for parcel in parcels
            if parcel.settlement.state in (DeliveryState.PARKED, DeliveryState.REVOKED)
        ]
        asked = {"id": ended, "consumer": self._inbox.consumer}
        started = {id for (id,) in unit.run(self._statements.started, asked)} if ended else set()
        return [
            Arriving(claimed, parcel, parcel.settlement.message_id in started)
            for claimed, parcel in zip(deliveries, parcels, strict=True)
        ]

    def _arrive(self, arriving: Sequence[Arriving]) -> frozenset[str]:
        """Commit parcels at home; returns the consumers to ring."""
        arrival = Arrival(
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

    def _arrive_or_park(self, each: Arriving) -> frozenset[str]:
        """Commit a parcel; where another message has the id of one it sent, its delivery is parked."""
        try:
            return self._arrive([each])
        except IdConflict as error:
            logger.error("%s: %s", self.name, error)  # noqa: TRY400 - it says all there is to say
            return self._arrive([replace(each, refused=error)])

    def _commit(self, arrival: Arrival, colocated: Mapping[str, Colocated]) -> frozenset[str]:
        return hop(self._home, arrival, len(arrival.arriving), colocated, Boundary.RETURN).woken

    def _one_by_one(self, arriving: Sequence[Arriving]) -> tuple[frozenset[str], list[Settlement]]:
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
                settled.append(
                    Settlement(
                        each.id,
                        DeliveryState.PENDING,
                        DeliveryOutcome.DEFERRED if waits else DeliveryOutcome.FAILED,
                        error=describe(error),
                        attempts=attempts,
                        delay=_BACKOFF.longest(attempts + 1),
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
