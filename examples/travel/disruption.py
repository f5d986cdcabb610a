"""Disruption: the saga `rebook_trip`, for travellers whose flight was cancelled after they booked it.

Everybody who is concerned reacts, none knowing the others: hotel and car are kept for longer, miles
make amends, the traveller is told.  When all of that is settled, a later flight is looked for.  If
none has seats, all of it is undone, the last reaction first, but for what cannot be.
"""

from dataclasses import replace
from datetime import time
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from examples.travel.day import Day, Flight
from examples.travel.messages import (
    Disrupt,
    DocumentsIssued,
    Rebook,
    ReissueDocuments,
    SeatingAssigned,
)
from examples.travel.trips import Trip
from saga import CAUSAL, SETTLED, Saga, Step

#: Flights that leave from then on were still sold when the first trips were booked.
NOON = time(12)


class Disruption(BaseModel):
    """A trip whose flight does not leave, and what becomes of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trip_id: UUID
    reference: str
    traveller: str
    travellers: int
    flight: str

    #: What the saga learns on its way.
    new_flight: str | None = None
    seats: tuple[str, ...] = ()
    tickets: tuple[str, ...] = ()


def disruption_of(trip: Trip) -> Disruption:
    """Return what the saga begins with."""
    return Disruption(
        trip_id=trip.trip_id,
        reference=trip.reference,
        traveller=trip.traveller,
        travellers=trip.travellers,
        flight=trip.flight,
    )


def disrupt(trip: Disruption) -> Disrupt:
    return Disrupt(trip_id=trip.trip_id, traveller=trip.traveller, flight=trip.flight)


def rebook(trip: Disruption) -> Rebook:
    return Rebook(trip_id=trip.trip_id, flight=trip.flight, seats=trip.travellers)


def keep_flight(trip: Disruption, event: SeatingAssigned) -> Disruption:
    return trip.model_copy(update={"new_flight": event.flight, "seats": event.seats})


def reissue(trip: Disruption) -> ReissueDocuments:
    assert trip.new_flight is not None
    return ReissueDocuments(trip_id=trip.trip_id, flight=trip.new_flight, seats=trip.seats)


def keep_tickets(trip: Disruption, event: DocumentsIssued) -> Disruption:
    return trip.model_copy(update={"tickets": event.tickets})


REBOOK_TRIP = Saga(
    name="rebook_trip",
    version=1,
    data=Disruption,
    key=lambda trip: trip.reference,
    steps=(
        Step("disruption", disrupt, until=SETTLED, compensation=CAUSAL),
        Step("rebooking", rebook, until=SeatingAssigned, on_success=keep_flight, pivot=True),
        Step("documents", reissue, until=DocumentsIssued, on_success=keep_tickets),
    ),
)


def hold_back(day: Day) -> tuple[Day, tuple[Flight, ...]]:
    """Return the day as it looked in the morning, and the flights that were cancelled later on.

    Flights that leave after noon and were cancelled are sold like the others until then.
    """
    late = tuple(f for f in day.flights if f.cancelled and f.departs.time() >= NOON)
    numbers = {flight.number for flight in late}
    flights = tuple(
        replace(flight, cancelled=False) if flight.number in numbers else flight
        for flight in day.flights
    )
    by_the_hour = tuple(sorted(late, key=lambda flight: (flight.departs, flight.number)))
    return replace(day, flights=flights), by_the_hour
