"""Delivery: one message to one consumer, how its row is read, and what becomes of it."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from internals.database.errors import storable
from internals.database.unit_of_work import Row
from internals.store.json_rows import Value
from internals.store.message_columns import SELECTED_COUNT, from_row
from saga.envelope import Envelope
from saga.errors import IdConflict

#: Columns of a claim that make up the delivery; a saga's state comes after them.
DELIVERY_COLUMNS = SELECTED_COUNT + 5

#: So many rings of the relay for one delivery say that the workers that claimed it died before
#: they settled it.  It is then started alone, and each start is counted before it is run.
SUSPECT_RINGS = 3

#: Longest error text that is kept with a delivery.
_MAX_ERROR = 2000


class DeliveryState(StrEnum):
    """Where one delivery stands."""

    PENDING = "pending"
    DONE = "done"
    #: Revoked before it was started.
    REVOKED = "revoked"
    #: Failed for good; waits for a person.
    PARKED = "parked"


class WaitReason(StrEnum):
    """What a pending delivery waits for beside its time; of one that is over, what it waited for last.

    It has no time to be run at but while it is being forwarded, when that is the forwarder's lease.
    """

    #: Another one of its ordering key is before it.
    ORDERING = "ordering"
    #: Past events are being handed to its consumer.
    BACKFILL = "backfill"
    #: It is on its way to its context's own database, and may have arrived.
    FORWARDING = "forwarding"
    #: It is in its context's own database.
    FORWARDED = "forwarded"


class DeliveryOutcome(StrEnum):
    """What a delivery ended with, or its last try.

    Each state has its own, and the words beside it are for people.
    """

    # Of a pending one; none if nobody has tried it yet.
    #: Its handler failed: it is tried again, or waits as parked for a person.
    FAILED = "failed"
    #: It could not be done then, for nothing that counts against it.
    DEFERRED = "deferred"
    #: The worker that claimed it does not know its kind, or cannot read it: another release may.
    UNHANDLED = "unhandled"
    #: Its worker died, or its lease ended, before it was settled.
    UNSETTLED = "unsettled"
    #: The context's own database could not be reached.
    NOT_FORWARDED = "not_forwarded"
    #: A person had it delivered again.
    RETRIED = "retried"

    # Of one that is done.
    HANDLED = "handled"
    #: Handled, though its lease had ended.
    OVERRAN = "overran"
    #: The business said no.
    REJECTED = "rejected"
    #: There is no undo of what it was to undo.
    NO_UNDO = "no_undo"
    #: Without effect on its saga: it came late, or twice.
    STALE = "stale"

    # Of a revoked one.
    #: Its step was undone.
    UNDONE = "undone"
    #: Its step was given up.
    GIVEN_UP = "given_up"
    #: Its deadline is not needed any more.
    NOT_NEEDED = "not_needed"
    #: A person dropped it.
    DROPPED = "dropped"
    #: A message that its saga sent again took its place.
    SUPERSEDED = "superseded"
    #: Its consumer is not subscribed any more.
    UNSUBSCRIBED = "unsubscribed"

    # Of a parked one, beside FAILED and UNSETTLED.
    #: Nothing that its saga sent leads to it, or there is no such saga.
    UNEXPECTED = "unexpected"
    #: What its handler sent has the id of another message.
    ID_CONFLICT = "id_conflict"

    @classmethod
    def parked_for(cls, error: BaseException) -> "DeliveryOutcome":
        """Return the outcome of a delivery that is parked for this error."""
        return cls.ID_CONFLICT if isinstance(error, IdConflict) else cls.FAILED


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message to one consumer, claimed by this transaction."""

    message: Envelope
    #: Runs that failed so far.
    attempts: int
    #: How often the relay rang for it: nobody settled it though it was claimed, or nobody heard.
    rings: int
    #: Deliveries of one key are handled one by one, in the order in which they were sent.
    ordering_key: str | None = None
    #: Runs in a row that gave way to the database and were not counted.
    yields: int = 0
    #: Whether its saga gave it up, so that it is not started any more.
    given_up: bool = False
    #: Of such a one, whether a handler that acts outside the database was started before.
    started: bool = False


@dataclass(frozen=True, slots=True)
class Settlement:
    """What becomes of a claimed delivery."""

    message_id: UUID
    state: DeliveryState = DeliveryState.DONE
    outcome: DeliveryOutcome = DeliveryOutcome.HANDLED
    error: str | None = None
    #: How-manieth message its saga consumed.
    position: int | None = None
    attempts: int = 0
    #: Seconds until a delivery that stays pending is due again.
    delay: float = 0.0
    #: Seconds that the handler ran; None if none did.
    took: float | None = None
    #: Runs in a row that gave way to the database, the last one included.
    yields: int = 0
    #: Whether the next run is to hold up nobody: it is started under a lease, as a suspect's is.
    alone: bool = False


def delivery(row: Row) -> Delivery:
    """Read the first columns of a claimed row."""
    attempts, rings, ordering_key, yields, given_up = row[SELECTED_COUNT:DELIVERY_COLUMNS]
    return Delivery(
        from_row(row[:SELECTED_COUNT]),
        attempts,
        rings,
        ordering_key,
        yields,
        given_up=given_up is not None,
        started=bool(given_up),
    )


def record(settlement: Settlement, consumer: str) -> dict[str, Value]:
    """Return a settlement as the statements take it."""
    return {
        "id": settlement.message_id,
        "consumer": consumer,
        "state": settlement.state.value,
        "outcome": settlement.outcome.value,
        "error": shortened(settlement.error),
        "position": settlement.position,
        "attempts": settlement.attempts,
        "delay": settlement.delay,
        "took": settlement.took,
        "yields": settlement.yields,
        "rings": SUSPECT_RINGS if settlement.alone else 0,
    }


def shortened(error: str | None) -> str | None:
    """Return an error's text as it is kept."""
    return None if error is None else storable(error)[:_MAX_ERROR]
