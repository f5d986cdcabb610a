"""Trips: the same for one file and seed, and shaped so that everything happens."""

from collections import Counter

import pytest

from examples.travel.contexts.cars import CARS_PER_SEAT
from examples.travel.contexts.hotels import ROOMS_PER_SEAT
from examples.travel.day import Day, read_day
from examples.travel.payment_cards import refusal
from examples.travel.trips import Trip, make_trips

#: The third trip of seed 1.
PINNED = {
    "trip_id": "3297457a-ef2b-54ea-a4b9-d4a0fa912c20",
    "reference": "TRIP-00003-3297457A",
    "traveller": "Traveller 0003",
    "travellers": 3,
    "flight": "UA685-LGA-ORD-1500",
    "destination": "ORD",
    "nights": 1,
    "wants_car": False,
    "card": "5555555555554444",
    "amount_cents": 62689,
    "seats": [],
    "rooms": [],
    "tickets": [],
}


@pytest.fixture(scope="module")
def day() -> Day:
    """The day that is shipped."""
    return read_day()


def test_one_seed_makes_the_same_trips(day: Day) -> None:
    assert make_trips(day, 50, seed=1) == make_trips(read_day(), 50, seed=1)


def test_another_seed_makes_other_trips(day: Day) -> None:
    one, other = make_trips(day, 50, seed=1), make_trips(day, 50, seed=2)
    assert not {trip.reference for trip in one} & {trip.reference for trip in other}


def test_they_never_change_unnoticed(day: Day) -> None:
    trip = make_trips(day, 3, seed=1)[2]
    assert trip.model_dump(mode="json") == PINNED


def test_each_trip_is_one_of_its_kind(day: Day) -> None:
    trips = make_trips(day, 2000, seed=1)
    assert len({trip.trip_id for trip in trips}) == len({trip.reference for trip in trips}) == 2000
    flights = {flight.number: flight for flight in day.flights}
    for trip in trips:
        assert trip.destination == flights[trip.flight].destination
        assert 1 <= trip.travellers <= 4
        assert trip.amount_cents > 0
        assert (trip.seats, trip.rooms, trip.tickets) == ((), (), ())


@pytest.mark.parametrize("count", [0, 1, 7])
def test_any_number_of_trips(day: Day, count: int) -> None:
    assert len(make_trips(day, count, seed=1)) == count


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_day_of_one_sort_of_flights(day: Day, cancelled: bool) -> None:
    flights = tuple(flight for flight in day.flights if flight.cancelled is cancelled)
    assert len(make_trips(Day(day.date, flights), 20, seed=1)) == 20


@pytest.mark.parametrize("seed", [1, 2, 7])
def test_every_way_to_end_occurs(day: Day, seed: int) -> None:
    ends = one_after_the_other(day, make_trips(day, 2000, seed))
    assert ends["completed"] >= 0.35 * 2000
    assert 2000 - ends["completed"] >= 0.20 * 2000
    assert all(ends[end] >= 20 for end in ("cancelled", "full", "hotel", "car", "card")), ends


def one_after_the_other(day: Day, trips: list[Trip]) -> Counter[str]:
    """Tell how the trips end when each is booked before the next one is asked for."""
    seats = {flight.number: flight.seats for flight in day.flights if not flight.cancelled}
    arriving = day.seats_arriving()
    rooms = {place: max(1, int(seats * ROOMS_PER_SEAT)) for place, seats in arriving.items()}
    cars = {place: max(1, int(seats * CARS_PER_SEAT)) for place, seats in arriving.items()}
    ends: Counter[str] = Counter()
    for trip in trips:
        if trip.flight not in seats:
            ends["cancelled"] += 1
        elif seats[trip.flight] < trip.travellers:
            ends["full"] += 1
        elif rooms[trip.destination] < trip.rooms_wanted:
            ends["hotel"] += 1
        elif cars[trip.destination] < trip.wants_car:
            ends["car"] += 1
        elif refusal(trip.card, trip.amount_cents):
            ends["card"] += 1
        else:
            ends["completed"] += 1
            seats[trip.flight] -= trip.travellers
            rooms[trip.destination] -= trip.rooms_wanted
            cars[trip.destination] -= trip.wants_car
    return ends
