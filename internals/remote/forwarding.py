"""Forwarding: deliveries go from home to the database of a context that has its own.

1. At home: claim a batch, and commit that it is being forwarded.  From here on nobody takes for
   unstarted what the other database may have.
2. There: write the messages with their deliveries, under the same ids, and commit.  What arrived
   before is dropped.
3. At home: commit that it arrived.  It stays pending until its parcel is back.

Cut anywhere, it is forwarded again, which changes nothing if it arrived.  No transaction is open at
home while the other database is spoken to, which may be down for minutes.
"""

import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID, uuid4

from internals.database.commit_points import Boundary, OpenTransaction, transaction
from internals.database.connections import Database
from internals.database.errors import describe
from internals.database.unit_of_work import UnitOfWork
from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.colocation import HopTransaction
from internals.hop.consumer import Handled
from internals.remote.results import parcels_of
from internals.remote.statements import RemoteStatements
from internals.store.delivery import DELIVERY_COLUMNS, delivery, shortened
from internals.store.inbox import Inbox
from internals.store.json_rows import Value, records
from internals.store.message_columns import to_record
from internals.store.outbox import Outbox
from saga.envelope import Envelope
from saga.errors import DefinitionError

logger = logging.getLogger(__name__)

#: Seconds that forwarding may take until others do it too, and a random half on top of them.
_LEASE = 10.0
#: Seconds until what arrived, and is not over, is forwarded once more.
_AGAIN = 600.0
#: Seconds until what could not be forwarded is tried again, at most.
_PAUSE = 1.0


@dataclass(frozen=True, slots=True)
class _Going:
    """A delivery that is being forwarded."""

    message: Envelope
    #: Of one that an operator had delivered again, the parcel that parked it.
    applied: UUID | None
    #: Whether nothing of it can have been started before.
    untouched: bool
    #: Whether its saga gave it up, which is to be said there.
    given_up: bool = False


@dataclass(frozen=True, slots=True)
class Forwarding:
    """A batch on its way."""

    going: Sequence[_Going]
    lease: UUID


class Forwarder:
    """The consumer at home of a context that has its own database.

    Args:
        inbox: The context's deliveries at home.
        outbox: Home's.
        statements: For the schema, which is called the same in both databases.
        there: The context's own database.
        grace: Seconds that a delivery may wait there before the relay rings for it.
    """

    def __init__(
        self,
        inbox: Inbox,
        outbox: Outbox,
        statements: RemoteStatements,
        there: Database,
        *,
        grace: float,
    ) -> None:
        self.name = inbox.consumer
        self._inbox = inbox
        self._outbox = outbox
        self._writer = BatchWriter(inbox, outbox)
        self._statements = statements
        self._there = there
        self._grace = grace

    def handle(self, hop: HopTransaction, limit: int) -> Handled:
        """Claim what is forwarded after the commit.  What is undone by now is not."""
        unit = hop.unit
        rows = unit.run(self._statements.to_forward, {"consumer": self.name, "limit": limit})
        if not rows:
            return Handled()
        deliveries = [delivery(row) for row in rows]
        undone = self._outbox.open_deliveries.undone(unit, (d.message for d in deliveries))
        batch = Batch(self.name)
        going = []
        for row, found in zip(rows, deliveries, strict=True):
            applied, started, again = row[DELIVERY_COLUMNS:]
            if found.message.root_id in undone and not again:
                batch.take_back(found)
            elif found.given_up and not started:
                batch.give_up(found)
            else:
                going.append(_Going(found.message, applied, not started, found.given_up))
        woken = self._writer.write(hop, batch)
        forwarding = self._begin(unit, going) if going else None
        after = None if forwarding is None else partial(self._forward, forwarding)
        return Handled(len(rows), len(rows), len(rows) >= limit, woken, after_commit=after)

    def _forward(self, leased: Forwarding, home: Database) -> frozenset[str]:
        """Forward a batch; returns nobody to ring, since its deliveries are not at home any more.

        Raises what the context's own database raises, and `DefinitionError` if that is home
        itself; the batch is forwarded later then.
        """
        opened = OpenTransaction(self._there, Boundary.FORWARD)
        told = False
        try:
            unit = opened.begin()
            rows = unit.run(self._statements.forward, self._parameters(leased))
            self._say_given_up(unit, leased)
            waiting = {id for (id,) in rows}
            if None in waiting:
                raise DefinitionError(
                    f"the database of context {self.name!r} is the one that has the sagas: leave "
                    "out the context's database="
                )
            told = True
            opened.commit()
        except Exception as error:
            opened.roll_back()
            self._put_off(home, leased, error, told=told)
            raise
        except BaseException:
            opened.roll_back()  # the worker is to stop: the lease runs out
            raise
        with transaction(home, Boundary.FORWARDED) as unit:
            self._give_back(unit, leased, [g for g in leased.going if g.message.id in waiting])
            arrived = [g for g in leased.going if g.message.id not in waiting]
            self._mark(unit, self._statements.confirm, leased, arrived)
        return frozenset()

    def _say_given_up(self, unit: UnitOfWork, leased: Forwarding) -> None:
        """Say in the other database what is given up, if anything is.

        A run of it that is under way there is waited for no longer than it takes to be settled.
        """
        if ids := sorted(each.message.id for each in leased.going if each.given_up):
            unit.run(self._statements.give_up, {"id": ids})
            asked = {"id": ids, "consumer": self.name, "grace": self._grace}
            unit.run(self._statements.hasten, asked)

    def say_why(self, unit: UnitOfWork, why: str, limit: int) -> None:
        """Note with what waits why it does, where nobody tries to forward it now."""
        asked = {"consumer": self.name, "limit": limit}
        if ids := [id for (id,) in unit.run(self._statements.unexplained, asked)]:
            said = {"id": ids, "consumer": self.name, "error": _not_yet(why)}
            unit.run(self._statements.explain, said)

    def _begin(self, unit: UnitOfWork, going: Sequence[_Going]) -> Forwarding:
        lease = uuid4()
        unit.run(
            self._statements.begin_forwarding,
            {
                "id": [each.message.id for each in going],
                "consumer": self.name,
                "lease": lease,
                "seconds": _LEASE * (1 + random.random() / 2),
            },
        )
        return Forwarding(going, lease)

    def _put_off(self, home: Database, leased: Forwarding, error: Exception, *, told: bool) -> None:
        """Let it be forwarded later; what cannot have arrived may also be revoked until then."""
        why = _not_yet(describe(error))
        untouched = [each for each in leased.going if each.untouched and not told]
        others = [each for each in leased.going if not each.untouched or told]
        try:
            with transaction(home, Boundary.FORWARDED) as unit:
                self._give_back(unit, leased, untouched, why)
                self._mark(unit, self._statements.forward_again, leased, others, why)
        except Exception:
            # What is to be told is why it was not forwarded.  The lease runs out.
            logger.warning("%s: not given back", self.name, exc_info=True)

    def _give_back(
        self,
        unit: UnitOfWork,
        leased: Forwarding,
        going: Sequence[_Going],
        why: str | None = None,
    ) -> None:
        """Leave it as it was; of what had been started that stays true."""
        untouched = [each for each in going if each.untouched]
        others = [each for each in going if not each.untouched]
        self._mark(unit, self._statements.give_back, leased, untouched, why)
        self._mark(unit, self._statements.forward_again, leased, others, why)

    def _mark(
        self,
        unit: UnitOfWork,
        statement: str,
        leased: Forwarding,
        going: Sequence[_Going],
        why: str | None = None,
    ) -> None:
        if going:
            unit.run(
                statement,
                {
                    "id": sorted(each.message.id for each in going),
                    "consumer": self.name,
                    "lease": leased.lease,
                    "delay": _PAUSE * random.uniform(0.5, 1),
                    "again": _AGAIN,
                    "error": why,
                },
            )

    def _parameters(self, leased: Forwarding) -> dict[str, object]:
        return {
            "messages": records(_record(each) for each in leased.going),
            "consumer": self.name,
            "parcels": parcels_of(self.name),
            "grace": self._grace,
        }


def _not_yet(why: str) -> str | None:
    return shortened(f"not forwarded to its own database yet: {why}")


def _record(going: _Going) -> dict[str, Value]:
    return {**to_record(going.message), "given_up": going.given_up, "applied": going.applied}
