"""Airline: cancels flights after they were sold, each at its own hour."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, time, timedelta

from boundary import Runtime
from examples.travel.day import Day, Flight
from examples.travel.messages import FlightCancelled

#: Flights that leave from then on were still sold when the first trips were booked.
NOON = time(12)


def hold_back(day: Day) -> tuple[Day, tuple[Flight, ...]]:
    """Return the day as it looked at noon, and the flights that were cancelled later on, by the hour."""
    late = [flight for flight in day.flights if flight.cancelled and flight.departs.time() >= NOON]
    numbers = {flight.number for flight in late}
    flights = tuple(
        replace(flight, cancelled=False) if flight.number in numbers else flight
        for flight in day.flights
    )
    late.sort(key=lambda flight: (flight.departs, flight.number))
    return replace(day, flights=flights), tuple(late)


class Airline:
    """The afternoon of the day: as bookings go on, its hours go by.

    Args:
        late: The flights to cancel, by the hour.
    """

    def __init__(self, late: Sequence[Flight] = ()) -> None:
        self._waiting = list(reversed(late))

    @property
    def done(self) -> bool:
        """Whether all are cancelled."""
        return not self._waiting

    def go_on(self, runtime: Runtime, share: float) -> bool:
        """Cancel the flights whose hour has come; returns whether there were any.

        Args:
            runtime: Where the events are published, each in a transaction of its own.
            share: How much of the afternoon is over, of 1.
        """
        told = False
        while self._waiting and self._waiting[-1].departs <= _hour(self._waiting[-1], share):
            flight = self._waiting.pop()
            with runtime.engine.begin() as connection:
                runtime.publish(connection, FlightCancelled(flight=flight.number))
            told = True
        return told


def _hour(flight: Flight, share: float) -> datetime:
    noon = datetime.combine(flight.departs.date(), NOON)
    return noon + share * timedelta(hours=12)
