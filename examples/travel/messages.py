"""Messages: everything the travel agent and the contexts say to each other.

A command is said to one context, the first word of its kind.  An event is said by one context to
whoever wants to know.
"""

from typing import Literal
from uuid import UUID

from saga import Command, Event

# Flights


class ReserveFlight(Command, kind="flights.reserve"):
    """Keep so many seats on a flight; answered by one of the next two."""

    trip_id: UUID
    flight: str
    seats: int


class FlightReserved(Event, kind="flights.reserved"):
    """The seats are kept, under a number that is never used again."""

    trip_id: UUID
    reservation: int
    flight: str
    seats: int


class FlightUnavailable(Event, kind="flights.unavailable"):
    """Nothing was kept."""

    trip_id: UUID
    flight: str
    reason: Literal["cancelled", "full", "unknown"]


class CancelFlight(Command, kind="flights.cancel"):
    """Give up the reservation of a trip, if it has one."""

    trip_id: UUID


class FlightReleased(Event, kind="flights.released"):
    """A reservation was given up; its seats go on sale once nobody sits on them."""

    trip_id: UUID
    reservation: int
    flight: str


# Seating


class SeatingAssigned(Event, kind="seating.assigned"):
    """The travellers know where they sit."""

    trip_id: UUID
    reservation: int
    flight: str
    seats: tuple[str, ...]


class SeatingFreed(Event, kind="seating.freed"):
    """Nobody sits on the seats of this reservation any more."""

    trip_id: UUID
    reservation: int


# Hotels


class BookHotel(Command, kind="hotels.book"):
    """Book rooms; answered by one of the next two."""

    trip_id: UUID
    destination: str
    rooms: int
    nights: int


class HotelBooked(Event, kind="hotels.booked"):
    """The rooms are booked."""

    trip_id: UUID
    destination: str
    rooms: tuple[str, ...]


class HotelUnavailable(Event, kind="hotels.unavailable"):
    """Fewer rooms than wanted are free, and none was booked."""

    trip_id: UUID
    destination: str


class CancelHotel(Command, kind="hotels.cancel"):
    """Give up the rooms of a trip, if it has any."""

    trip_id: UUID


# Cars


class RentCar(Command, kind="cars.rent"):
    """Rent one car; rejected when none is left."""

    trip_id: UUID
    destination: str
    days: int


class CancelCar(Command, kind="cars.cancel"):
    """Give up the car of a trip, if it has one."""

    trip_id: UUID


# Payments


class ChargeCard(Command, kind="payments.charge"):
    """Take money for a trip; answered by one of the next two."""

    trip_id: UUID
    traveller: str
    card: str
    amount_cents: int


class PaymentCharged(Event, kind="payments.charged"):
    """The traveller paid."""

    trip_id: UUID
    traveller: str
    amount_cents: int


class PaymentDeclined(Event, kind="payments.declined"):
    """The card was not charged."""

    trip_id: UUID
    reason: str


# Documents


class IssueDocuments(Command, kind="documents.issue"):
    """Write a ticket for each seat."""

    trip_id: UUID
    reference: str
    traveller: str
    flight: str
    seats: tuple[str, ...]


class DocumentsIssued(Event, kind="documents.issued"):
    """The tickets are written; in the order of the seats."""

    trip_id: UUID
    reference: str
    traveller: str
    flight: str
    tickets: tuple[str, ...]


class ReissueDocuments(Command, kind="documents.reissue"):
    """Write new tickets for a trip in place of those that it has."""

    trip_id: UUID
    reference: str
    traveller: str
    flight: str
    seats: tuple[str, ...]


# A flight that is cancelled after it was booked


class FlightCancelled(Event, kind="airline.flight_cancelled"):
    """It will not leave; the airline says so, to whoever wants to know."""

    flight: str


class Disrupt(Command, kind="flights.disrupt"):
    """A trip's flight will not leave: tell everybody who is concerned."""

    trip_id: UUID
    traveller: str
    flight: str


class TripDisrupted(Event, kind="flights.trip_disrupted"):
    """The travellers are late, by a night at least."""

    trip_id: UUID
    traveller: str
    flight: str


class Rebook(Command, kind="flights.rebook"):
    """Keep seats on a later flight instead; rejected when none has so many."""

    trip_id: UUID
    flight: str
    seats: int
