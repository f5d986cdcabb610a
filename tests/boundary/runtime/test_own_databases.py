"""A context that has a database of its own: everything happens once, and home knows of all of it."""

import time
from datetime import timedelta
from typing import Any

import pytest

from internals import Work
from saga import Rejected, Retry
from tests.boundary.worlds.own_database_app import Grind, Mill, Sown, act_nothing, bread
from tests.boundary.worlds.own_database_faults import GROUND, SPILT, Gone, fall

IN_TIME = bread(timeout=timedelta(hours=1))


HOURLY = Retry(attempts=9, backoff=timedelta(hours=1))


class TestBothWays:
    def test_a_command_goes_there_and_what_came_of_it_comes_home(self, mill: Mill) -> None:
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        assert mill.baked() == [1]
        assert mill.at_home()["state"] == mill.at_the_mill()["state"] == "done"
        assert mill.here("SELECT data FROM saga")[0]["data"]["note"] == "fine ½"
        mill.check()

    def test_a_doorbell_is_all_that_it_takes(self, mill: Mill) -> None:
        [id] = mill.order(1)
        assert mill.runtime.answer("mill", follow=True) == 2  # and the oven's, in this thread
        assert mill.status(id) == "completed"

    def test_a_no_comes_home_and_leaves_nothing_there(self, mill: Mill) -> None:
        def refuse(command: Grind, work: Work) -> None:
            raise Rejected("no grain")

        mill.acts = refuse
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "compensated"
        assert mill.milled() == []
        assert mill.at_home()["last_error"] == "rejected: no grain"

    def test_it_is_compensated_there(self, mill: Mill) -> None:
        mill.burnt = {1}
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "compensated"
        assert mill.milled() == [GROUND, SPILT]
        mill.check()

    def test_two_contexts_of_one_database_hear_of_one_event(self, mill: Mill) -> None:
        mill.sow(Sown(field="north", n=1))
        mill.settle()
        assert sorted(mill.milled()) == [("hopes for north", 1), ("reckons with north", 1)]
        assert len(mill.there("SELECT * FROM outbox WHERE kind = 'farm.sown'")) == 1

    def test_a_batch_is_as_one(self, mill: Mill) -> None:
        ids = mill.order(*range(150))
        mill.settle()
        assert {mill.status(id) for id in ids} == {"completed"}
        assert sorted(n for _, n in mill.milled()) == list(range(150))
        mill.check()

    def test_what_fails_is_tried_again_there(self, mill: Mill) -> None:
        mill.acts = fall
        mill.open(retry=Retry(attempts=3, backoff=timedelta(hours=1)))
        [id] = mill.order(1)
        mill.settle()
        assert mill.at_the_mill()["attempts"] == 1
        row = mill.at_home()
        assert (row["state"], row["wait_reason"]) == ("pending", "forwarded")
        assert (row["attempts"], row["last_error"]) == (1, "RuntimeError: the wheel is broken")
        mill.acts = act_nothing
        mill.end_leases()
        mill.settle()
        assert mill.status(id) == "completed"
        assert mill.at_home()["attempts"] == 1
        assert mill.milled() == [GROUND]

    def test_a_handler_that_calls_out_is_leased_there(self, mill: Mill) -> None:
        keys: list[str] = []

        def call(command: Grind, work: Work) -> None:
            keys.append(work.idempotency_key)
            assert mill.at_the_mill()["lease"] is not None
            if len(keys) == 1:
                raise Gone

        mill.acts = call
        mill.open(external=True)
        [id] = mill.order(1)
        with pytest.raises(Gone):
            mill.settle()
        mill.end_leases()
        mill.settle()
        assert len(keys) == 2
        assert len(set(keys)) == 1
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]

    def test_a_call_there_that_takes_longer_than_its_lease_is_made_once(self, mill: Mill) -> None:
        calls: list[Any] = []

        def call(command: Grind, work: Work) -> None:
            first = mill.at_the_mill()["due_at"]
            calls.append(first)
            while mill.there("SELECT clock_timestamp() <= %s AS leased", first)[0]["leased"]:
                time.sleep(0.01)
            mill.another().answer("mill")

        mill.acts = call
        mill.open(external=True, lease=timedelta(seconds=1))
        [id] = mill.order(1)
        mill.settle()
        assert len(calls) == 1
        assert mill.status(id) == "completed"
        assert mill.milled() == [GROUND]
        assert mill.at_home()["last_error"].startswith("took longer than its lease")


class TestGivenUp:
    """What the saga gave up while it is in the other database is not started again there."""

    @pytest.mark.parametrize("retry", [HOURLY, Retry(attempts=1)], ids=["later", "never again"])
    @pytest.mark.parametrize("external", [False, True])
    def test_a_run_that_is_under_way_there_and_fails_is_the_last(
        self, mill: Mill, external: bool, retry: Retry
    ) -> None:
        runs: list[int] = []

        def grind(command: Grind, work: Work) -> None:
            runs.append(command.n)
            mill.pass_deadline()
            mill.settle("saga.bread")
            raise RuntimeError("the wheel is broken")

        mill.acts = grind
        mill.open(retry=retry, external=external, saga=IN_TIME)
        [id] = mill.order(1)
        for _ in range(4):
            mill.settle()
            mill.end_leases()
        assert runs == [1]
        # There it may be known as one that failed for good; nobody can retry it at home.
        assert mill.at_the_mill()["state"] in ("parked", "revoked")
        row = mill.at_home()
        assert row["state"] == "revoked"
        assert row["last_error"].endswith("revoked: its step was given up")
        assert mill.status(id) == "compensated"
        mill.check()

    @pytest.mark.parametrize("external", [False, True])
    def test_one_that_waits_there_for_its_next_attempt_is_taken_back_at_once(
        self, mill: Mill, external: bool
    ) -> None:
        mill.acts = fall
        mill.open(retry=HOURLY, external=external, saga=IN_TIME)
        [id] = mill.order(1)
        mill.settle()
        assert mill.at_the_mill()["state"] == "pending"
        mill.acts = act_nothing
        mill.pass_deadline()
        mill.settle()
        assert mill.at_the_mill()["state"] == "revoked"
        row = mill.at_home()
        assert (row["state"], row["started_at"] is None) == ("revoked", not external)
        assert mill.status(id) == "compensated"
        assert GROUND not in mill.milled()
        mill.check()

    def test_a_key_that_outlives_a_replay_does_so_there(self, mill: Mill) -> None:
        keys: list[str] = []

        def call(command: Grind, work: Work) -> None:
            keys.append(work.idempotency_key)
            if len(keys) == 1:
                raise RuntimeError("the answer was lost")

        mill.acts = call
        mill.open(retry=Retry(attempts=1), external=True)
        [id] = mill.order(1)
        mill.settle()
        assert mill.status(id) == "stuck"
        mill.replay(id)
        mill.settle()
        assert mill.status(id) == "completed"
        assert len(keys) == 2
        assert len(set(keys)) == 1
