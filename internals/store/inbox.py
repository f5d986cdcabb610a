"""Inbox: deliveries are claimed, and settled in the transaction that claimed them."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from internals.database.lock_waits import giving_way
from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.delivery import Delivery, Settlement, delivery, record
from internals.store.json_rows import records
from internals.store.ordering_keys import unfit
from internals.store.sql import Statements
from saga.envelope import Envelope
from saga.messages import Settled

#: The words for a run that took longer than its lease.
OVERRAN = "took longer than its lease"
#: What a delivery is said to have failed with whose lease ended before it was settled.
_UNSETTLED = f"its worker died, or it {OVERRAN}"


class Inbox:
    """The deliveries of one consumer.  Stateless; safe to share between threads."""

    def __init__(self, consumer: str, schema: str, statements: Statements) -> None:
        self.consumer = consumer
        self.statements = statements
        digest = hashlib.blake2b(f"{schema}.{consumer}".encode(), digest_size=8).digest()
        self._lock = int.from_bytes(digest, signed=True)

    def claim(self, unit: UnitOfWork, limit: int, *, beside: int = 1) -> tuple[list[Delivery], int]:
        """Lock and return up to `limit` due deliveries, oldest first, and what the limit was.

        While another batch of this consumer's is under way the limit is `beside`.  Nothing returned
        means that someone else did it: this is the check that makes a repeated or forged doorbell
        harmless.
        """
        rows = unit.run(
            self.statements.claim,
            {"consumer": self.consumer, "limit": limit, "lock": self._lock, "beside": beside},
        )
        return [delivery(row) for row in rows if row[0] is not None], rows[0][-1]

    def claim_with_sagas(
        self, unit: UnitOfWork, limit: int, skip: Sequence[UUID] = ()
    ) -> Sequence[Row]:
        """Lock due deliveries and the sagas they belong to; returns raw rows.

        The first `DELIVERY_COLUMNS` make a `delivery`; the rest is the saga's stored state,
        null where another transaction holds the saga or it does not exist.  Deliveries of the
        sagas to `skip` are left alone.
        """
        return unit.run(
            self.statements.claim_sagas,
            {"consumer": self.consumer, "limit": limit, "skip": list(skip)},
        )

    def take_turn(self, unit: UnitOfWork) -> None:
        """Wait for other transactions that do this, until their commits."""
        unit.run(self.statements.take_turn, {"lock": ~self._lock})  # a claim has the other

    def settle(self, unit: UnitOfWork, settlements: Sequence[Settlement]) -> None:
        """Record what became of claimed deliveries."""
        if settlements:
            unit.run(self.statements.settle, self._parameters(settlements))

    def finish(
        self,
        unit: UnitOfWork,
        settlements: Iterable[Settlement],
        messages: Mapping[str, object],
        sagas: Mapping[str, object] | None,
    ) -> Sequence[Row]:
        """Record what became of claimed deliveries, and in the same statement send and save.

        Args:
            unit: The transaction that claimed them.
            settlements: What became of them.
            messages: `Outbox.parameters` of what is sent.
            sagas: `saga_rows.parameters` of the sagas to save, if any.

        Returns the rows that `outbox.woken` reads.  Raises `PayloadError` for a message with an
        ordering key that is too long.
        """
        statement = self.statements.finish
        parameters = {**self._parameters(settlements), **messages}
        if sagas is not None:
            statement = self.statements.finish_sagas
            parameters |= sagas
        try:
            with giving_way():
                return unit.run(statement, parameters)
        except Exception as error:
            if (refused := unfit(error)) is not None:
                raise refused from error
            raise

    def given_up(self, unit: UnitOfWork, ids: Iterable[UUID]) -> dict[UUID, bool]:
        """Return which of these commands their sagas gave up, though a run was under way.

        Each comes with whether a handler that acts outside the database was started.  Until the
        commit no saga gives up one of the others: it waits, and finds what became of the run.
        """
        asked = {"consumer": self.consumer, "id": sorted(ids)}
        return {
            id: started
            for id, given_up, started in unit.run(self.statements.look_given_up, asked)
            if given_up
        }

    def _parameters(self, settlements: Iterable[Settlement]) -> dict[str, object]:
        settled = records(record(settlement, self.consumer) for settlement in settlements)
        return {"consumer": self.consumer, "settled": settled}

    def lease(
        self, unit: UnitOfWork, message_id: UUID, lease: UUID, seconds: float, *, external: bool
    ) -> None:
        """Keep a claimed delivery for the holder of `lease`, and count the start of a run."""
        unit.run(
            self.statements.lease,
            {
                "consumer": self.consumer,
                "id": message_id,
                "lease": lease,
                "seconds": seconds,
                "external": external,
                "unsettled": _UNSETTLED,
            },
        )

    def last_error(self, unit: UnitOfWork, message_id: UUID) -> str | None:
        """Return what a delivery last failed with; None if all that is known is that it did."""
        found = unit.run(self.statements.last_error, {"consumer": self.consumer, "id": message_id})
        return found[0][0] if found else None

    def lease_all(
        self, unit: UnitOfWork, message_ids: Sequence[UUID], lease: UUID, seconds: float
    ) -> None:
        """Keep claimed deliveries for the holder of `lease`, to be sent elsewhere together."""
        unit.run(
            self.statements.lease_all,
            {
                "consumer": self.consumer,
                "id": sorted(message_ids),
                "lease": lease,
                "seconds": seconds,
            },
        )

    def hold_claimed(self, unit: UnitOfWork, delivery: Delivery) -> bool:
        """Lock a delivery whose claim was lost; False if somebody else has got on with it since."""
        asked = {
            "consumer": self.consumer,
            "id": delivery.message.id,
            "attempts": delivery.attempts,
        }
        return len(unit.run(self.statements.hold_claimed, asked)) == 1

    def hold(self, unit: UnitOfWork, message_id: UUID, lease: UUID) -> bool | None:
        """Lock a leased delivery to settle it; None if somebody has settled it.

        Returns whether the lease is still this one; it may have ended and gone to another.
        """
        asked = {"consumer": self.consumer, "id": message_id, "lease": lease}
        held: list[bool] = [ours for (ours,) in unit.run(self.statements.hold_lease, asked)]
        return held[0] if held else None

    def reopen(self, unit: UnitOfWork, message: Envelope) -> bool:
        """Open a delivery again that was revoked while a call to the outside was under way.

        False if it was not revoked, or its command was not given up.
        """
        asked = {
            "consumer": self.consumer,
            "id": message.id,
            "tells": Settled.kind in message.awaits,
        }
        return bool(unit.run(self.statements.reopen, asked))

    def hold_all(
        self, unit: UnitOfWork, message_ids: Sequence[UUID], lease: UUID
    ) -> Mapping[UUID, bool]:
        """Lock deliveries as `hold` does: those that nobody has settled, with what it returns."""
        held: dict[UUID, bool] = dict(
            unit.run(
                self.statements.hold_leases,
                {"consumer": self.consumer, "id": sorted(message_ids), "lease": lease},
            )
        )
        return held
