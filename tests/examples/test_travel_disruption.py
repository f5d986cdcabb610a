"""Travellers whose flight is cancelled after they booked it: the saga, and the demo that plays it."""

import datetime as dt
import json
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine, delete, update

from boundary.settings import Settings
from examples.travel.airline import NOON, Airline, hold_back
from examples.travel.contexts.flights import departures
from examples.travel.contexts.rebooking import disruptions
from examples.travel.day import read_day
from examples.travel.demo import DemoOptions, run_demo
from examples.travel.disrupted import Disrupted, check_disrupted, read_disrupted
from examples.travel.disruption import REBOOK_TRIP, Disruption
from examples.travel.messages import (
    Disrupt,
    DocumentsIssued,
    FlightCancelled,
    Rebook,
    ReissueDocuments,
    SeatingAssigned,
)
from examples.travel.trips import Trip
from saga.testing import given
from tests.conftest import worker_environment
from tests.examples.test_demo import KEYS, start
from tests.schemas import drop_schema

TRIP = Disruption(
    trip_id=UUID(int=1), reference="TRIP-1", traveller="T", travellers=2, flight="AA1-JFK-BOS-1300"
)
TRAVELLER: Any = {"trip_id": UUID(int=1), "reference": "TRIP-1", "traveller": "T"}
LATER = "AA2-JFK-BOS-1900"
DISRUPTED_KEYS = {"disrupted", "rebooked", "settled", "causally_undone", "still_standing"}


def test_a_later_flight_is_looked_for_when_everybody_has_reacted() -> None:
    rebooked = (
        given(REBOOK_TRIP, TRIP)
        .expect(Disrupt)
        .settled("disruption")
        .expect(Rebook(trip_id=TRIP.trip_id, flight=TRIP.flight, seats=2))
        .when(
            SeatingAssigned(trip_id=TRIP.trip_id, reservation=9, flight=LATER, seats=("1A", "1B"))
        )
        .expect(ReissueDocuments(**TRAVELLER, flight=LATER, seats=("1A", "1B")))
        .when(DocumentsIssued(**TRAVELLER, flight=LATER, tickets=("E1", "E2")))
        .expect_completed()
    )
    assert rebooked.data.new_flight == LATER
    assert rebooked.data.tickets == ("E1", "E2")


def test_if_none_has_seats_every_reaction_is_undone() -> None:
    (
        given(REBOOK_TRIP, TRIP)
        .settled("disruption")
        .rejected("rebooking", "no later flight has seats")
        .expect_nothing()
        .expect_undoing("disruption")
        .settled("disruption")
        .expect_compensated()
    )


def test_what_was_cancelled_after_noon_was_on_sale_in_the_morning() -> None:
    day = read_day()
    morning, late = hold_back(day)
    assert {flight.number for flight in late} == {
        f.number for f in day.flights if f.cancelled and f.departs.time() >= NOON
    }
    assert [f.departs for f in late] == sorted(f.departs for f in late)
    assert sum(f.cancelled for f in day.flights) == 472
    assert sum(f.cancelled for f in morning.flights) == 472 - len(late)
    assert all(f.departs.time() < dt.time(12) for f in morning.flights if f.cancelled)


class Listening:
    """In place of a runtime: notes what is published, and when."""

    def __init__(self) -> None:
        self.engine = self
        self.told: list[str] = []

    def begin(self) -> Any:
        return nullcontext()

    def publish(self, _: object, event: FlightCancelled) -> None:
        self.told.append(event.flight)


def test_each_flight_is_cancelled_at_its_hour() -> None:
    _, late = hold_back(read_day())
    airline, runtime = Airline(late), Listening()
    for quarter in range(5):
        before = len(runtime.told)
        news = airline.go_on(runtime, quarter / 4)  # type: ignore[arg-type]
        hour = dt.datetime.combine(late[0].departs, NOON) + quarter * dt.timedelta(hours=3)
        assert runtime.told == [flight.number for flight in late if flight.departs <= hour]
        assert news is (len(runtime.told) > before)
    assert airline.done


class TestChecks:
    """Each check finds what it is for."""

    @pytest.fixture
    def trip(self, new_trip: Any, book: Any) -> Trip:
        trip = new_trip(1)
        book(trip)
        return cast(Trip, trip)

    def disrupted(self, trip: Trip, status: str, **changes: Any) -> Disrupted:
        begun = Disruption(
            **{name: getattr(trip, name) for name in ("trip_id", "reference", "traveller")},
            travellers=trip.travellers,
            flight=trip.flight,
        )
        return Disrupted([(begun.model_copy(update=changes), status)], 1, 0)

    def failing(self, connection: Connection, found: Disrupted, *trips: Trip) -> set[str]:
        checks = check_disrupted(connection, found, trips)
        return {check.name for check in checks if not check.ok}

    def test_a_trip_that_is_neither_rebooked_nor_undone(
        self, connection: Connection, trip: Trip
    ) -> None:
        stuck = replace(self.disrupted(trip, "stuck"), settled=0)
        assert "every_disrupted_trip_is_rebooked_or_undone" in self.failing(connection, stuck, trip)

    def test_an_earlier_flight_or_another_place(self, connection: Connection, trip: Trip) -> None:
        wrong = self.disrupted(trip, "completed", new_flight="AA1-JFK-LAX-0800")
        names = self.failing(connection, wrong, trip)
        assert "rebooked_trips_leave_later_for_the_same_place" in names
        assert "rebooked_trips_have_tickets_of_their_new_flight" in names
        assert "who_waits_was_looked_after_and_nobody_else" in names

    def test_a_trip_on_a_cancelled_flight_that_nobody_looked_after(
        self, connection: Connection, trip: Trip
    ) -> None:
        name = "on_cancelled_flights_are_those_who_found_no_other"
        assert name not in self.failing(connection, Disrupted([], 0, 0), trip)
        connection.execute(
            update(departures).where(departures.c.flight == trip.flight).values(cancelled_late=True)
        )
        assert name in self.failing(connection, Disrupted([], 0, 0), trip)
        assert name not in self.failing(connection, self.disrupted(trip, "compensated"), trip)

    def test_a_traveller_who_was_not_told(self, connection: Connection, trip: Trip) -> None:
        undone = self.disrupted(trip, "compensated")
        assert "what_cannot_be_undone_is_reported" in self.failing(connection, undone, trip)


@pytest.fixture
def environment(empty_settings: Settings, owner: Engine) -> Iterator[dict[str, str]]:
    yield os.environ | worker_environment(empty_settings)
    with owner.begin() as connection:
        for suffix in ("demo", "demo_travel"):
            drop_schema(connection, f"{empty_settings.db_schema}_{suffix}")


def test_the_demo_plays_it_while_workers_die(environment: dict[str, str]) -> None:
    options = ("--trips", "220", "--kill-every", "1", "--disruption", "--json")
    demo = start(environment, *options)
    out, err = demo.communicate(timeout=200)
    assert demo.returncode == 0, err
    report = json.loads(out)
    assert all(report["checks"].values()), report
    assert set(report) >= KEYS | DISRUPTED_KEYS
    assert min(report["rebooked"], report["causally_undone"]) >= 1
    assert report["disrupted"] == report["rebooked"] + report["causally_undone"]
    assert report["settled"] == report["disrupted"]
    assert report["still_standing"] == report["causally_undone"] > 0
    assert report["kills"] >= 1
    assert err == ""


@pytest.fixture
def play(
    environment: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Play the demo in this process: returns how it ended, its report, and what else it said."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    def play(**options: Any) -> tuple[int, dict[str, Any], str]:
        ended = run_demo(DemoOptions(disruption=True, json=True, kill_every=0, **options))
        said = capsys.readouterr()
        return ended, json.loads(said.out), said.err

    return play


def test_it_fails_where_a_table_is_not_as_it_should_be(
    play: Callable[..., tuple[int, dict[str, Any], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(connection: Connection, schema: str) -> Disrupted:
        connection.execute(delete(disruptions))
        return read_disrupted(connection, schema)

    monkeypatch.setattr("examples.travel.demo.read_disrupted", spoil)
    ended, report, said = play(trips=220)
    assert ended == 1
    failed = [name for name, ok in report["checks"].items() if not ok]
    assert failed == ["who_waits_was_looked_after_and_nobody_else"]
    assert said.startswith("who waits was looked after and nobody else: trip ")
    assert said.count("\n") == 1


def test_it_fails_where_no_trip_was_disrupted(
    play: Callable[..., tuple[int, dict[str, Any], str]],
) -> None:
    ended, report, said = play(trips=2)
    assert ended == 1
    assert report["disrupted"] == 0
    assert [name for name, ok in report["checks"].items() if not ok] == ["trips_were_disrupted"]
    assert said == (
        "trips were disrupted: no trip had tickets of a flight that is cancelled after noon; "
        "book more with --trips, on a day that has such flights\n"
    )
