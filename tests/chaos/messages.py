"""Messages of the harness's contexts."""

from uuid import UUID

from saga import Command, Event


class _Order(Command):
    """What every command tells."""

    trip_id: UUID
    #: The account that pays, or is paid back.
    traveller: str
    cents: int = 0


class _Outcome(Event):
    """What every event tells."""

    trip_id: UUID
    reason: str | None = None


class ReserveFlight(_Order, kind="flights.reserve"):
    refuse: bool
    #: Handed on, for the context that assigns seats.
    refuse_seat: bool


class CancelFlight(_Order, kind="flights.cancel"): ...


class FlightReserved(_Outcome, kind="flights.reserved"):
    refuse_seat: bool


class FlightUnavailable(_Outcome, kind="flights.unavailable"): ...


class FlightCancelled(_Outcome, kind="flights.cancelled"): ...


class SeatAssigned(_Outcome, kind="seating.assigned"):
    seat: str


class SeatRefused(_Outcome, kind="seating.refused"): ...


class BookHotel(_Order, kind="hotels.book"):
    refuse: bool
    #: Handed on, for the context that assigns rooms.
    refuse_room: bool


class CancelHotel(_Order, kind="hotels.cancel"): ...


class HotelBooked(_Outcome, kind="hotels.booked"):
    refuse_room: bool


class HotelCancelled(_Outcome, kind="hotels.cancelled"): ...


class RoomAssigned(_Outcome, kind="rooms.assigned"): ...


class RoomRefused(_Outcome, kind="rooms.refused"): ...


class HotelUnavailable(_Outcome, kind="hotels.unavailable"): ...


class RentCar(_Order, kind="cars.rent"):
    refuse: bool


class CancelCar(_Order, kind="cars.cancel"): ...


class Charge(_Order, kind="payments.charge"):
    refuse: bool


class Charged(_Outcome, kind="payments.charged"):
    receipt: str


class ChargeDeclined(_Outcome, kind="payments.declined"): ...


class IssueDocuments(_Order, kind="documents.issue"): ...


class DocumentsIssued(_Outcome, kind="documents.issued"): ...
