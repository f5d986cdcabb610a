"""Trips: what travellers ask for on a day, always the same for one file and seed.

Demand is shaped so that each way for a booking to fail occurs: some ask for a flight that was
cancelled, many want the same few popular flights, some pay with a card that is refused.
"""

import random
from collections.abc import Sequence
from uuid import UUID, uuid5

from pydantic import BaseModel, ConfigDict, Field

from examples.travel.day import Day, Flight
from examples.travel.payment_cards import CARD_LIMITS, GOOD_CARDS, REFUSED_CARDS

#: So many of the trips ask for a cancelled flight, if the day has any ...
CANCELLED_SHARE = 0.15
#: ... and so many for a popular one.
POPULAR_SHARE = 0.20
#: The popular flights together have so many of the seats that are asked for on them.
POPULAR_SUPPLY = 0.6
#: So many pay with a card that is refused ...
REFUSED_SHARE = 0.04
#: ... and so many with a prepaid one.
PREPAID_SHARE = 0.07

_PARTY_SIZES = (1, 2, 3, 4)
_PARTY_WEIGHTS = (35, 40, 10, 15)
_MEAN_PARTY = sum(map(lambda size, weight: size * weight, _PARTY_SIZES, _PARTY_WEIGHTS)) / 100
_NAMESPACE = UUID("6b1d4a0e-52f4-5d7c-9d0b-0d5c2f2a8f11")

# Prices in cents.
_FARE_BASE, _FARE_PER_MILE, _ROOM_PER_NIGHT, _CAR_PER_DAY = 4_900, 11, 11_900, 4_500


class Trip(BaseModel):
    """One trip, as it is asked for and as the saga fills it in."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trip_id: UUID
    #: The business key.
    reference: str
    #: Who books and pays.
    traveller: str
    #: How many travel together.
    travellers: int = Field(ge=1, le=4)
    flight: str
    destination: str
    #: Nights in a hotel; 0 for those who stay with friends.
    nights: int = Field(ge=0)
    wants_car: bool
    card: str
    amount_cents: int = Field(gt=0)

    #: What the saga learns on its way.
    seats: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ()
    tickets: tuple[str, ...] = ()

    @property
    def rooms_wanted(self) -> int:
        """How many rooms: two people share one."""
        return (self.travellers + 1) // 2 if self.nights else 0


def make_trips(day: Day, count: int, seed: int) -> list[Trip]:
    """Return so many trips; the same for the same day and seed, and other ones for another seed."""
    rng = random.Random(seed)
    cancelled = [flight for flight in day.flights if flight.cancelled]
    flown = [flight for flight in day.flights if not flight.cancelled]
    popular = _popular(flown, count, rng)
    trips: list[Trip] = []
    for number in range(1, count + 1):
        draw = rng.random()
        if cancelled and (draw < CANCELLED_SHARE or not flown):
            flights: Sequence[Flight] = cancelled
        elif draw < CANCELLED_SHARE + POPULAR_SHARE:
            flights = popular
        else:
            flights = flown
        trip_id = uuid5(_NAMESPACE, f"{day.date}/{seed}/{number}")
        trips.append(_trip(trip_id, number, rng.choice(flights), rng))
    return trips


def _popular(flown: list[Flight], count: int, rng: random.Random) -> list[Flight]:
    """Choose flights that together are too small for those who want them, one at least."""
    wanted_seats = int(count * POPULAR_SHARE * _MEAN_PARTY * POPULAR_SUPPLY)
    chosen: list[Flight] = []
    for flight in rng.sample(flown, len(flown)):
        if flight.seats <= wanted_seats:
            chosen.append(flight)
            wanted_seats -= flight.seats
    return chosen or sorted(flown, key=lambda flight: flight.seats)[:1]


def _trip(trip_id: UUID, number: int, flight: Flight, rng: random.Random) -> Trip:
    travellers = rng.choices(_PARTY_SIZES, _PARTY_WEIGHTS)[0]
    nights = rng.choice((0, 1, 2, 2, 3, 3, 4, 5, 6, 7))
    wants_car = rng.random() < 0.5
    rooms = (travellers + 1) // 2
    amount = (
        travellers * (_FARE_BASE + flight.distance * _FARE_PER_MILE)
        + nights * rooms * _ROOM_PER_NIGHT
        + (max(nights, 1) * _CAR_PER_DAY if wants_car else 0)
    )
    return Trip(
        trip_id=trip_id,
        reference=f"TRIP-{number:05}-{trip_id.hex[:8].upper()}",
        traveller=f"Traveller {number:04}",
        travellers=travellers,
        flight=flight.number,
        destination=flight.destination,
        nights=nights,
        wants_car=wants_car,
        card=_card(rng),
        amount_cents=amount,
    )


def _card(rng: random.Random) -> str:
    draw = rng.random()
    if draw < REFUSED_SHARE:
        return rng.choice(tuple(REFUSED_CARDS))
    if draw < REFUSED_SHARE + PREPAID_SHARE:
        return rng.choice(tuple(CARD_LIMITS))
    return rng.choice(GOOD_CARDS)
