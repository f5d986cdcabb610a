"""Results: parcels, which a context's own database sends home after each run of a handler.

A parcel is written in the transaction that handled the delivery, and holds what became of it and
all that the handler sent.  So home gets everything or nothing of a run, and nothing of one that was
rolled back.  A run that failed and is tried again there has a parcel too, so that home can show it.

Events get their order at home, so their parcels go there one after the other, as they were committed:
a transaction that writes some keeps others of its context from doing so until its commit.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.colocation import HopTransaction
from internals.ids import uuid7
from internals.store.delivery import DeliveryOutcome, DeliveryState, Settlement, shortened
from internals.store.inbox import Inbox
from internals.store.message_columns import from_json_object, to_json_object
from internals.store.outbox import Outbox, woken
from internals.store.sql.hop import PARCEL
from saga.envelope import Category, Envelope


def parcels_of(context: str) -> str:
    """Return the consumer of a context's parcels, in its own database.

    A context's name has no dot, so the two never meet.
    """
    return f"{context}.parcels"


def context_of(consumer: str) -> str:
    """Return the context whose deliveries, or parcels, a consumer of its own database gets."""
    return consumer.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What became of one delivery, and what its handler sent."""

    #: For home, to be written there as it is.
    settlement: Settlement
    sent: tuple[Envelope, ...]
    #: Whether a saga that waits until all is done hears from what was sent that it is not.
    refuses: bool = False

    def to_json(self) -> str:
        """Return it as JSON text; payloads are texts in it, so that they come back unchanged."""
        settlement = self.settlement
        return json.dumps(
            {
                "message_id": str(settlement.message_id),
                "state": settlement.state.value,
                "outcome": settlement.outcome.value,
                "error": shortened(settlement.error),
                "attempts": settlement.attempts,
                "took": settlement.took,
                "sent": [to_json_object(envelope) for envelope in self.sent],
                "refuses": self.refuses,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "Parcel":
        """Read what `to_json` wrote."""
        stored = json.loads(text)
        return cls(
            Settlement(
                UUID(stored["message_id"]),
                DeliveryState(stored["state"]),
                DeliveryOutcome(stored["outcome"]),
                error=stored["error"],
                attempts=stored["attempts"],
                took=stored["took"],
            ),
            tuple(from_json_object(envelope) for envelope in stored["sent"]),
            stored["refuses"],
        )


class Parcelling(BatchWriter):
    """Writes batches in a context's own database.

    Args:
        inbox: The deliveries.
        outbox: Of that database.
        unlimited: The same without a limit on payloads: a parcel may hold many messages, each of
            which was looked at before.
    """

    def __init__(self, inbox: Inbox, outbox: Outbox, unlimited: Outbox) -> None:
        super().__init__(inbox, outbox)
        self._unlimited = unlimited

    def write(
        self, hop: HopTransaction, batch: Batch, *, sagas: Mapping[str, object] | None = None
    ) -> frozenset[str]:
        """Settle the batch, with a parcel for each delivery whose handler ran, or that is over.

        What is counted, ordered or told to sagas is so at home, when the parcel arrives.
        """
        unit = hop.unit
        self.judge_failed(unit, batch)
        if not batch.settlements:
            return frozenset()
        if any(envelope.category is Category.EVENT for envelope in batch.messages):
            self.inbox.take_turn(unit)
        sent: dict[UUID | None, list[Envelope]] = {}
        for envelope in batch.messages:
            sent.setdefault(envelope.causation_id, []).append(envelope)
        refusing = {closing.cause for closing in batch.closed if closing.quiet}
        parcels = [
            _addressed(
                Parcel(
                    settlement,
                    tuple(sent.get(settlement.message_id, ())),
                    refuses=settlement.message_id in refusing,
                ),
                self.inbox,
            )
            for settlement in batch.settlements
            if settlement.state is not DeliveryState.PENDING or settlement.took is not None
        ]
        messages = self._unlimited.parameters(parcels)
        rows = self.inbox.finish(unit, batch.settlements, messages, sagas)
        self.outbox.refuse_others(unit, rows, parcels)
        return frozenset(woken(rows))


def _addressed(parcel: Parcel, inbox: Inbox) -> Envelope:
    return Envelope(
        id=uuid7(),
        kind=PARCEL,
        category=Category.REPLY,
        payload=parcel.to_json(),
        causation_id=parcel.settlement.message_id,
        recipient=parcels_of(inbox.consumer),
        sender=inbox.consumer,
    )
