"""Contexts of the harness: each writes what it does into the ledger, and refuses what it must."""

from internals import Context, Work
from saga import Rejected
from tests.chaos.ledger import do, undo, was_done
from tests.chaos.messages import (
    BookHotel,
    CancelCar,
    CancelFlight,
    CancelHotel,
    Charged,
    DocumentsIssued,
    FlightCancelled,
    FlightReserved,
    FlightUnavailable,
    HotelBooked,
    HotelCancelled,
    HotelUnavailable,
    IssueDocuments,
    RentCar,
    ReserveFlight,
    RoomAssigned,
    RoomRefused,
    SeatAssigned,
    SeatRefused,
)

flights = Context("flights")
seating = Context("seating")
hotels = Context("hotels")
rooms = Context("rooms")
cars = Context("cars")
documents = Context("documents")
loyalty = Context("loyalty")


@flights.handles(ReserveFlight, emits=(FlightReserved, FlightUnavailable))
def reserve(command: ReserveFlight, work: Work) -> None:
    if command.refuse:
        work.publish(FlightUnavailable(trip_id=command.trip_id, reason="it is full"))
        return
    do(work, command.trip_id, "flight", command.traveller, command.cents)
    work.publish(FlightReserved(trip_id=command.trip_id, refuse_seat=command.refuse_seat))


@flights.handles(CancelFlight, emits=(FlightCancelled,))
def cancel(command: CancelFlight, work: Work) -> None:
    undo(work, command.trip_id, "flight", command.traveller, command.cents)
    work.publish(FlightCancelled(trip_id=command.trip_id))


@seating.reacts_to(FlightReserved, emits=(SeatAssigned, SeatRefused))
def assign_seat(event: FlightReserved, work: Work) -> None:
    if event.refuse_seat:
        work.publish(SeatRefused(trip_id=event.trip_id, reason="no seats together"))
        return
    do(work, event.trip_id, "seating")
    work.publish(SeatAssigned(trip_id=event.trip_id, seat="1A"))


@seating.reacts_to(FlightCancelled)
def release_seat(event: FlightCancelled, work: Work) -> None:
    if was_done(work, event.trip_id, "seating"):
        undo(work, event.trip_id, "seating")


@hotels.handles(BookHotel, emits=(HotelBooked, HotelUnavailable))
def book(command: BookHotel, work: Work) -> None:
    if command.refuse:
        work.publish(HotelUnavailable(trip_id=command.trip_id, reason="no rooms"))
        return
    do(work, command.trip_id, "hotel", command.traveller, command.cents)
    work.publish(HotelBooked(trip_id=command.trip_id, refuse_room=command.refuse_room))


@hotels.handles(CancelHotel, emits=(HotelCancelled,))
def cancel_booking(command: CancelHotel, work: Work) -> None:
    undo(work, command.trip_id, "hotel", command.traveller, command.cents)
    work.publish(HotelCancelled(trip_id=command.trip_id))


@rooms.reacts_to(HotelBooked, emits=(RoomAssigned, RoomRefused))
def assign_room(event: HotelBooked, work: Work) -> None:
    if event.refuse_room:
        work.publish(RoomRefused(trip_id=event.trip_id, reason="only smoking rooms"))
        return
    do(work, event.trip_id, "room")
    work.publish(RoomAssigned(trip_id=event.trip_id))


@rooms.reacts_to(HotelCancelled)
def release_room(event: HotelCancelled, work: Work) -> None:
    if was_done(work, event.trip_id, "room"):
        undo(work, event.trip_id, "room")


@cars.handles(RentCar)
def rent(command: RentCar, work: Work) -> None:
    # Written first, so that a rejection that did not roll back would show.
    do(work, command.trip_id, "car", command.traveller, command.cents)
    if command.refuse:
        raise Rejected("no cars left")


@cars.handles(CancelCar)
def cancel_rental(command: CancelCar, work: Work) -> None:
    undo(work, command.trip_id, "car", command.traveller, command.cents)


@documents.handles(IssueDocuments, emits=(DocumentsIssued,))
def issue(command: IssueDocuments, work: Work) -> None:
    do(work, command.trip_id, "documents")
    work.publish(DocumentsIssued(trip_id=command.trip_id))


@loyalty.reacts_to(Charged)
def credit_miles(event: Charged, work: Work) -> None:
    """Nobody awaits this one."""
    do(work, event.trip_id, "miles")
