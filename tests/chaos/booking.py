"""The saga of the harness: a flight and a hotel with hops behind them, the hotel together with a
car, a pivot that acts outside the database, and documents."""

from saga import Command, Parallel, Saga, Step
from tests.chaos.messages import (
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
    Charge,
    Charged,
    ChargeDeclined,
    DocumentsIssued,
    FlightUnavailable,
    HotelUnavailable,
    IssueDocuments,
    RentCar,
    ReserveFlight,
    RoomAssigned,
    RoomRefused,
    SeatAssigned,
    SeatRefused,
)
from tests.chaos.trips import Trip


def reserve_flight(trip: Trip) -> Command:
    return ReserveFlight(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=trip.price("flight"),
        refuse=trip.refused_by == "flight",
        refuse_seat=trip.refused_by == "seating",
    )


def keep_seat(trip: Trip, event: SeatAssigned) -> Trip:
    return trip.model_copy(update={"seat": event.seat})


def cancel_flight(trip: Trip) -> Command:
    cents = trip.price("flight")
    return CancelFlight(trip_id=trip.trip_id, traveller=trip.traveller, cents=cents)


def book_hotel(trip: Trip) -> Command:
    return BookHotel(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=trip.price("hotel"),
        refuse=trip.refused_by == "hotel",
        refuse_room=trip.refused_by == "room",
    )


def cancel_hotel(trip: Trip) -> Command:
    cents = trip.price("hotel")
    return CancelHotel(trip_id=trip.trip_id, traveller=trip.traveller, cents=cents)


def rent_car(trip: Trip) -> Command | None:
    if not trip.wants_car:
        return None
    return RentCar(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=trip.price("car"),
        refuse=trip.refused_by == "car",
    )


def cancel_car(trip: Trip) -> Command:
    return CancelCar(trip_id=trip.trip_id, traveller=trip.traveller, cents=trip.price("car"))


def charge(trip: Trip) -> Command:
    return Charge(
        trip_id=trip.trip_id,
        traveller=trip.traveller,
        cents=trip.price("payment"),
        refuse=trip.refused_by == "payment",
    )


def keep_receipt(trip: Trip, event: Charged) -> Trip:
    return trip.model_copy(update={"receipt": event.receipt})


def issue_documents(trip: Trip) -> Command:
    return IssueDocuments(trip_id=trip.trip_id, traveller=trip.traveller)


CHAOS_TRIP = Saga(
    name="chaos_trip",
    version=1,
    data=Trip,
    key=lambda trip: trip.reference,
    steps=(
        Step(
            "flight",
            reserve_flight,
            until=SeatAssigned,
            rejected_by=(FlightUnavailable, SeatRefused),
            on_success=keep_seat,
            compensation=cancel_flight,
        ),
        Parallel(
            Step(
                "hotel",
                book_hotel,
                until=RoomAssigned,
                rejected_by=(HotelUnavailable, RoomRefused),
                compensation=cancel_hotel,
            ),
            Step("car", rent_car, compensation=cancel_car),
        ),
        Step(
            "payment",
            charge,
            until=Charged,
            rejected_by=ChargeDeclined,
            on_success=keep_receipt,
            pivot=True,
        ),
        Step("documents", issue_documents, until=DocumentsIssued),
    ),
)
