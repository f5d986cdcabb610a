"""Disruption: the saga `rebook_trip`, for travellers whose flight was cancelled after they booked it.

Everybody who is concerned reacts, none knowing the others: nobody boards, hotel and car are kept for
longer, miles make amends, the traveller is told.  When all of that is settled, a later flight is looked
for.  If none has seats, all of it is undone, the last reaction first, but for what cannot be.
"""

from uuid import UUID

from pydantic import BaseModel, ConfigDict

from examples.travel.messages import (
    Disrupt,
    DocumentsIssued,
    Rebook,
    ReissueDocuments,
    SeatingAssigned,
)
from saga import CAUSAL, SETTLED, Saga, Step


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


def disrupt(trip: Disruption) -> Disrupt:
    return Disrupt(trip_id=trip.trip_id, traveller=trip.traveller, flight=trip.flight)


def rebook(trip: Disruption) -> Rebook:
    return Rebook(trip_id=trip.trip_id, flight=trip.flight, seats=trip.travellers)


def keep_flight(trip: Disruption, event: SeatingAssigned) -> Disruption:
    return trip.model_copy(update={"new_flight": event.flight, "seats": event.seats})


def reissue(trip: Disruption) -> ReissueDocuments:
    assert trip.new_flight is not None
    return ReissueDocuments(
        trip_id=trip.trip_id,
        reference=trip.reference,
        traveller=trip.traveller,
        flight=trip.new_flight,
        seats=trip.seats,
    )


def keep_tickets(trip: Disruption, event: DocumentsIssued) -> Disruption:
    return trip.model_copy(update={"tickets": event.tickets})


REBOOK_TRIP = Saga(
    name="rebook_trip",
    version=1,
    data=Disruption,
    # The later flight may be cancelled too, at a later hour.
    key=lambda trip: f"{trip.reference} {trip.flight}",
    steps=(
        Step("disruption", disrupt, until=SETTLED, compensation=CAUSAL),
        Step("rebooking", rebook, until=SeatingAssigned, on_success=keep_flight, pivot=True),
        Step("documents", reissue, until=DocumentsIssued, on_success=keep_tickets),
    ),
)
