"""A small day, and a travel agent who books without the framework: one trip at a time, at once."""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, create_engine

from examples.travel.booking import BOOK_TRIP
from examples.travel.contexts import ALL_CONTEXTS, create_tables
from examples.travel.day import Day, Flight
from examples.travel.payment_cards import GOOD_CARDS
from examples.travel.trips import Trip
from internals import Context
from saga import Event, Rejected

Booking = tuple[str, Trip]


@pytest.fixture
def small_day() -> Day:
    """One flight of three seats, one of 60 and one that was cancelled."""
    return Day(
        dt.date(2013, 2, 8),
        (
            _flight("AA1-JFK-LAX-0800", 3),
            _flight("AA2-JFK-BOS-0900", 60),
            _flight("AA3-JFK-LAX-1000", 60, cancelled=True),
        ),
    )


@pytest.fixture
def connection(connection_url: str, small_day: Day) -> Iterator[Connection]:
    """A transaction in which the tables of the small day exist; nothing of it stays."""
    # A name of its own: tests that run at the same time would wait for each other's schema.
    schema = f"travel_test_{uuid4().hex[:12]}"
    engine = create_engine(
        connection_url, execution_options={"schema_translate_map": {"travel": schema}}
    )
    with engine.connect() as connection:
        create_tables(connection, small_day)
        yield connection
        connection.rollback()
    engine.dispose()


@pytest.fixture
def new_trip() -> Callable[..., Trip]:
    """Make a trip of two to Boston that can be booked, but for what is said otherwise."""

    def make(number: int = 1, **changes: Any) -> Trip:
        flight = changes.setdefault("flight", "AA2-JFK-BOS-0900")
        fields = {
            "trip_id": UUID(int=number),
            "reference": f"TRIP-{number}",
            "traveller": f"Traveller {number}",
            "travellers": 2,
            "destination": flight.split("-")[2],
            "nights": 2,
            "wants_car": True,
            "card": GOOD_CARDS[0],
            "amount_cents": 70_050,
        }
        return Trip.model_validate(fields | changes)

    return make


@pytest.fixture
def tell(connection: Connection) -> Callable[..., list[Event]]:
    """Hand a message to a context, and what that publishes to whoever reacts, to the end."""

    def tell(message: Any, context: Context) -> list[Event]:
        handler = context.handlers[message.kind]
        work = _Work(connection, handler.emits)
        with connection.begin_nested():
            handler.function(message, work)
        events = list(work.published)
        for event in work.published:
            for other in ALL_CONTEXTS:
                if event.kind in other.handlers:
                    events += tell(event, other)
        return events

    return tell


@pytest.fixture
def book(tell: Callable[..., list[Event]]) -> Callable[[Trip], Booking]:
    """Book a trip as the saga would; returns its final status and what became of the trip."""
    contexts = {context.name: context for context in ALL_CONTEXTS}

    def command(message: Any) -> list[Event]:
        return tell(message, contexts[message.kind.partition(".")[0]])

    def book(trip: Trip) -> Booking:
        done = []
        for group in BOOK_TRIP.groups:
            rejected = False
            step: Any
            for step in group:
                action = step.action(trip)
                if action is None:
                    continue
                try:
                    events = command(action)
                except Rejected:
                    rejected = True
                    continue
                outcomes = [event for event in events if type(event) is step.until]
                if step.until is not None and not outcomes:
                    assert [type(event) for event in events] == [step.rejected_by]
                    rejected = True
                    continue
                if step.on_success is not None:
                    trip = step.on_success(trip, outcomes[0])
                done.append(step)
            if rejected:
                for step in reversed(done):
                    assert step.compensation is not None
                    undo = step.compensation(trip)
                    assert undo is not None
                    command(undo)
                return "compensated", trip
        return "completed", trip

    return book


class _Work:
    """The part of the framework's `Work` that a handler uses."""

    def __init__(self, connection: Connection, emits: tuple[type, ...]) -> None:
        self.connection = connection
        self.published: list[Event] = []
        self._emits = emits

    def publish(self, event: Event) -> None:
        assert type(event) in self._emits
        self.published.append(event)


def _flight(number: str, seats: int, cancelled: bool = False) -> Flight:
    _, origin, destination, time = number.split("-")
    return Flight(
        number=number,
        carrier=number[:2],
        origin=origin,
        destination=destination,
        departs=dt.datetime(2013, 2, 8, int(time[:2])),
        distance=200,
        cancelled=cancelled,
        seats=seats,
    )
