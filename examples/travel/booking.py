"""Booking: the saga `book_trip`, the whole journey at one glance.

A flight, then hotel and car together, then the card is charged, and from there it only goes
forward: the documents are issued.  Whatever is refused before that, all is undone.
"""

from examples.travel.messages import (
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
    ChargeCard,
    DocumentsIssued,
    FlightUnavailable,
    HotelBooked,
    HotelUnavailable,
    IssueDocuments,
    PaymentCharged,
    PaymentDeclined,
    RentCar,
    ReserveFlight,
    SeatingAssigned,
)
from examples.travel.trips import Trip
from saga import Parallel, Saga, Step


def reserve_flight(trip: Trip) -> ReserveFlight:
    return ReserveFlight(trip_id=trip.trip_id, flight=trip.flight, seats=trip.travellers)


def keep_seats(trip: Trip, event: SeatingAssigned) -> Trip:
    return trip.model_copy(update={"seats": event.seats})


def cancel_flight(trip: Trip) -> CancelFlight:
    return CancelFlight(trip_id=trip.trip_id)


def book_hotel(trip: Trip) -> BookHotel | None:
    if not trip.nights:
        return None
    return BookHotel(
        trip_id=trip.trip_id,
        destination=trip.destination,
        rooms=trip.rooms_wanted,
        nights=trip.nights,
    )


def keep_rooms(trip: Trip, event: HotelBooked) -> Trip:
    return trip.model_copy(update={"rooms": event.rooms})


def cancel_hotel(trip: Trip) -> CancelHotel:
    return CancelHotel(trip_id=trip.trip_id)


def rent_car(trip: Trip) -> RentCar | None:
    if not trip.wants_car:
        return None
    return RentCar(trip_id=trip.trip_id, destination=trip.destination, days=max(trip.nights, 1))


def cancel_car(trip: Trip) -> CancelCar:
    return CancelCar(trip_id=trip.trip_id)


def charge_card(trip: Trip) -> ChargeCard:
    return ChargeCard(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        card=trip.card,
        amount_cents=trip.amount_cents,
    )


def issue_documents(trip: Trip) -> IssueDocuments:
    return IssueDocuments(
        trip_id=trip.trip_id,
        reference=trip.reference,
        traveller=trip.traveller,
        flight=trip.flight,
        seats=trip.seats,
    )


def keep_tickets(trip: Trip, event: DocumentsIssued) -> Trip:
    return trip.model_copy(update={"tickets": event.tickets})


BOOK_TRIP = Saga(
    name="book_trip",
    version=1,
    data=Trip,
    key=lambda trip: trip.reference,
    steps=(
        # The saga commands flights and hears from seating, which it does not know.
        Step(
            "flight",
            reserve_flight,
            until=SeatingAssigned,
            rejected_by=FlightUnavailable,
            on_success=keep_seats,
            compensation=cancel_flight,
        ),
        Parallel(
            Step(
                "hotel",
                book_hotel,
                until=HotelBooked,
                rejected_by=HotelUnavailable,
                on_success=keep_rooms,
                compensation=cancel_hotel,
            ),
            # Ends when the command's own handler is done, or says no by raising `Rejected`.
            Step("car", rent_car, compensation=cancel_car),
        ),
        Step(
            "payment",
            charge_card,
            until=PaymentCharged,
            rejected_by=PaymentDeclined,
            pivot=True,
        ),
        Step("documents", issue_documents, until=DocumentsIssued, on_success=keep_tickets),
    ),
)
