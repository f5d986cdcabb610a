"""Trips of the harness: what each asks for and who will refuse it, always the same for a seed."""

import random
from typing import Literal
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

#: Who may refuse a trip, and how often each does: together a bit more than a quarter.
REFUSALS = {
    "flight": 0.05,
    "seating": 0.05,
    "hotel": 0.04,
    "room": 0.05,
    "car": 0.05,
    "payment": 0.04,
}

#: So many an operator tries to cancel.
TO_CANCEL = 0.08

#: Accounts that travellers pay from.
TRAVELLERS = 500

_NAMESPACE = UUID("3f0c8a52-7d0e-5a4b-9a57-5a1f6d6f3c11")
#: Shares of the price.
_SHARES = {"flight": 3, "hotel": 2, "car": 1}


class Trip(BaseModel):
    """One trip, as it is asked for and as the saga fills it in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trip_id: UUID
    #: The business key.
    reference: str
    #: The account that pays.
    traveller: str
    #: Cents for one share: a flight costs three, a hotel two, a car one.
    share_cents: int = Field(gt=0)
    wants_car: bool
    #: Decided beforehand, so that the checker knows how each trip must end.
    refused_by: Literal["flight", "seating", "hotel", "room", "car", "payment"] | None = None

    #: Whether an operator will try to cancel it.
    to_cancel: bool = False

    #: What the saga learns on its way.
    seat: str | None = None
    receipt: str | None = None
    #: Whether an operator corrected it.
    mended: bool = False

    def price(self, step: str) -> int:
        """Return the cents that a step costs; 0 for one that moves no money."""
        if step == "payment":
            return sum(self.price(name) for name in _SHARES if name != "car" or self.wants_car)
        return self.share_cents * _SHARES.get(step, 0)


def make_trips(count: int, seed: int) -> list[Trip]:
    """Return so many trips; the same for the same seed."""
    rng = random.Random(seed)
    return [_trip(number, seed, rng) for number in range(1, count + 1)]


def _trip(number: int, seed: int, rng: random.Random) -> Trip:
    trip_id = uuid5(_NAMESPACE, f"{seed}/{number}")
    refused_by = rng.choices([None, *REFUSALS], [1 - sum(REFUSALS.values()), *REFUSALS.values()])[0]
    return Trip(
        trip_id=trip_id,
        reference=f"CHAOS-{number:06}-{trip_id.hex[:6].upper()}",
        traveller=f"traveller {rng.randrange(TRAVELLERS)}",
        share_cents=rng.randrange(1_000, 20_000),
        wants_car=refused_by == "car" or rng.random() < 0.7,
        refused_by=refused_by,
        to_cancel=rng.random() < TO_CANCEL,
    )
