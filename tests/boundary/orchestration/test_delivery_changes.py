"""Deadlines and revocations on real Postgres: what decisions do to deliveries that exist."""

from typing import Any

import pytest

from saga import Retry, TimedOut
from tests.boundary.worlds.deadline_saga import HOUR, LIMITED, Port, failing


@pytest.fixture
def port(runtime: Any, outside: Any) -> Port:
    return Port(runtime, outside)


class TestDeadline:
    def test_it_is_a_due_time_in_postgres_that_outlives_every_worker(self, port: Port) -> None:
        port.open("cabins")  # nobody charges
        id = port.start()
        (before,) = port.rows("SELECT clock_timestamp() AS now")
        port.settle()
        (row,) = port.deliveries(TimedOut.kind)
        assert (row["state"], row["consumer"]) == ("pending", "saga.crossing")
        assert row["due_at"] >= before["now"] + HOUR
        assert row["ring_at"] >= row["due_at"]
        assert port.status(id) == "running"

        port.open("cabins")  # the workers of then are gone
        port.make_due(TimedOut.kind)
        port.settle()
        assert port.status(id) == "compensated"
        assert port.done == ["cabins.reserve", "cabins.release"]

    def test_one_that_was_met_is_cleared(self, port: Port) -> None:
        port.open("cabins", "bank", "pier")
        id = port.start()
        port.settle()
        assert port.status(id) == "completed"
        assert port.states(TimedOut.kind) == ["revoked"]


class TestRevocation:
    def test_what_nobody_started_is_taken_back_and_never_done(self, port: Port) -> None:
        port.open("cabins")
        id = port.start()
        port.settle()
        port.make_due(TimedOut.kind)
        port.settle()
        assert port.states("bank.charge") == ["revoked"]

        port.open("cabins", "bank")  # too late
        port.settle()
        assert port.done == ["cabins.reserve", "cabins.release"]
        assert port.status(id) == "compensated"

    def test_what_one_hop_orders_and_gives_up_is_taken_back_and_never_done(
        self, port: Port
    ) -> None:
        port.open("cabins", "pier")
        id = port.start(LIMITED)
        port.runtime.answer("cabins")
        port.make_due(TimedOut.kind)  # while nobody saw to the saga
        assert port.runtime.answer("saga.crossing") == 2
        assert port.states("pier.board") == ["revoked"]
        port.settle()
        assert port.done == ["cabins.reserve", "cabins.release"]
        assert port.status(id) == "compensated"

    def test_what_is_being_handled_is_not_and_its_late_success_is_undone(self, port: Port) -> None:
        port.open("cabins", "bank", charge=lambda *_: port.give_up())
        id = port.start()
        port.settle()
        refunds = ["bank.refund"] * 2  # for the doubt, and for the success
        assert port.done == ["cabins.reserve", "bank.charge", *refunds, "cabins.release"]
        assert port.states("bank.charge") == ["done"]
        assert port.status(id) == "compensated"

    def test_what_a_worker_dies_of_then_is_not_started_again(self, port: Port) -> None:
        port.open("cabins")
        id = port.start()
        port.settle()
        port.make_due(TimedOut.kind)
        port.open("cabins", "bank")
        with port.runtime.engine.begin() as handling:
            handling.exec_driver_sql(
                "SELECT 1 FROM inbox WHERE consumer = 'bank' FOR UPDATE"
            )  # as a hop does that is in the middle of it
            port.settle()
            assert port.status(id) == "compensated"
            assert port.done == ["cabins.reserve", "bank.refund", "cabins.release"]
        port.settle()
        assert port.done[3:] == []
        assert port.states("bank.charge") == ["revoked"]
        assert port.status(id) == "compensated"

    def test_a_call_to_the_outside_that_was_started_is_not_and_is_not_made_again(
        self, port: Port
    ) -> None:
        port.open("cabins", "bank", charge=failing(9), external=True, retry=Retry(attempts=9))
        id = port.start()
        port.settle()
        assert port.states("bank.charge") == ["pending"]  # it failed, and may have had its effect
        port.make_due(TimedOut.kind)
        port.settle()
        assert port.states("bank.charge") == ["revoked"]
        assert port.done == ["cabins.reserve", "bank.refund", "cabins.release"]
        assert port.status(id) == "compensated"
