"""Delivery: one message to one consumer, how its row is read, and what becomes of it."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from internals.database.errors import storable
from internals.database.unit_of_work import Row
from internals.store.json_rows import Value
from internals.store.message_columns import SELECTED_COUNT, from_row
from saga.envelope import Envelope

#: Columns of a claim that make up the delivery; a saga's state comes after them.
DELIVERY_COLUMNS = SELECTED_COUNT + 5

#: So many rings of the relay for one delivery say that whoever claimed it did not live to settle
#: it.  It is then started alone, and each start is counted before it is run.
SUSPECT_RINGS = 3

#: Longest error text that is kept with a delivery.
_MAX_ERROR = 2000


class DeliveryState(StrEnum):
    """Where one delivery stands."""

    PENDING = "pending"
    DONE = "done"
    #: Taken back before it was started.
    REVOKED = "revoked"
    #: Failed for good; waits for a person.
    PARKED = "parked"


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
