"""Messages of the harness's contexts."""

from uuid import UUID

from saga import Command, Event


class Order(Command):
    """What every command tells."""

    trip_id: UUID
    #: The account that pays, or is paid back.
    traveller: str
    cents: int = 0


class Outcome(Event):
    """What every event tells."""

    trip_id: UUID
    reason: str | None = None


class ReserveFlight(Order, kind="flights.reserve"):
    refuse: bool
    #: Handed on, for the context that assigns seats.
    refuse_seat: bool


class CancelFlight(Order, kind="flights.cancel"): ...


class FlightReserved(Outcome, kind="flights.reserved"):
    refuse_seat: bool


class FlightUnavailable(Outcome, kind="flights.unavailable"): ...


class FlightCancelled(Outcome, kind="flights.cancelled"): ...


class SeatAssigned(Outcome, kind="seating.assigned"):
    seat: str


class SeatRefused(Outcome, kind="seating.refused"): ...


class BookHotel(Order, kind="hotels.book"):
    refuse: bool
    #: Handed on, for the context that assigns rooms.
    refuse_room: bool


class CancelHotel(Order, kind="hotels.cancel"): ...


class HotelBooked(Outcome, kind="hotels.booked"):
    refuse_room: bool


class HotelCancelled(Outcome, kind="hotels.cancelled"): ...


class RoomAssigned(Outcome, kind="rooms.assigned"): ...


class RoomRefused(Outcome, kind="rooms.refused"): ...


class HotelUnavailable(Outcome, kind="hotels.unavailable"): ...


class RentCar(Order, kind="cars.rent"):
    refuse: bool


class CancelCar(Order, kind="cars.cancel"): ...


class Charge(Order, kind="payments.charge"):
    refuse: bool


class Charged(Outcome, kind="payments.charged"):
    receipt: str


class ChargeDeclined(Outcome, kind="payments.declined"): ...


class IssueDocuments(Order, kind="documents.issue"): ...


class DocumentsIssued(Outcome, kind="documents.issued"): ...
