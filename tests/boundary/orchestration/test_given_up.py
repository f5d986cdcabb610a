"""Commands that a saga gave up: a run that is under way may finish, and none is started again."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from dramatiq.middleware import Interrupt

from internals import Work
from internals.database.unit_of_work import joined
from internals.store.inbox import Inbox
from saga import ActRefused, Retry
from saga.messages import Cancelled
from tests.boundary.worlds.deadline_saga import FINAL, ONCE, Port, failing

#: Far more runs than there may be, and no wait between them that a test would have to be told of.
ALWAYS = Retry(attempts=9, backoff=timedelta(days=1), cap=timedelta(days=1), always=(ValueError,))


@pytest.fixture
def port(runtime: Any, outside: Any) -> Port:
    return Port(runtime, outside)


class Bank:
    """A bank of which the saga gives up the charge while it is being handled."""

    def __init__(self, port: Port, give_up: Callable[[], None] | None = None) -> None:
        self.port = port
        self.runs = 0
        self.give_up = give_up or port.give_up

    def __call__(self, command: Any, work: Work) -> None:
        self.runs += 1
        self.give_up()
        raise ValueError("the bank is closed")


def cancel(port: Port, id: UUID, *, patience: str = "20s") -> None:
    with port.runtime.engine.begin() as connection:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{patience}'")
        port.runtime._administration.acts.act(
            joined(connection), id, Cancelled(reason="ill"), actor="ann"
        )


@pytest.mark.parametrize("external", [False, True])
class TestARunThatFails:
    def test_it_is_not_started_again_after_the_deadline(self, port: Port, external: bool) -> None:
        bank = Bank(port)
        port.open("cabins", "bank", charge=bank, external=external, retry=ALWAYS)
        id = port.start()
        for _ in range(3):
            port.settle()
            port.make_due("bank.charge")
        assert bank.runs == 1
        (row,) = port.deliveries("bank.charge")
        assert row["state"] == "revoked"
        assert row["last_error"] == (
            "ValueError: the bank is closed; revoked: its step was given up"
        )
        assert port.status(id) == "compensated"
        # For the doubt; and a call that failed after that may have had its effect after the refund.
        refunds = ["bank.refund"] * (2 if external else 1)
        assert port.done == ["cabins.reserve", *refunds, "cabins.release"]

    def test_nor_after_the_saga_was_cancelled(self, port: Port, external: bool) -> None:
        begun: list[UUID] = []
        bank = Bank(port, lambda: cancel(port, begun[0]))
        port.open("cabins", "bank", charge=bank, external=external, retry=ALWAYS)
        begun.append(port.start())
        for _ in range(3):
            port.settle()
            port.make_due("bank.charge")
        assert bank.runs == 1
        assert port.states("bank.charge") == ["revoked"]
        assert port.status(begun[0]) == "compensated"
        # A handler within the database left nothing; a call may have had its effect.
        refunds = ["bank.refund"] if external else []
        assert port.done == ["cabins.reserve", *refunds, "cabins.release"]

    def test_nor_is_it_parked_where_an_operator_could_retry_it(
        self, port: Port, external: bool
    ) -> None:
        port.open("cabins", "bank", charge=Bank(port), external=external, retry=ONCE)
        id = port.start()
        port.settle()
        (row,) = port.deliveries("bank.charge")
        assert row["state"] == "revoked"
        with (
            pytest.raises(ActRefused, match="its saga gave up the step"),
            port.runtime.engine.begin() as connection,
        ):
            port.runtime._administration.acts.parked.retry(
                joined(connection), [row["message_id"]], actor="ann", reason="again"
            )
        assert port.status(id) == "compensated"


@pytest.mark.parametrize("external", [False, True])
def test_a_pivot_that_was_called_is_tried_until_its_outcome_is_known(
    port: Port, external: bool
) -> None:
    """What it did could not be undone, so a cancel does not leave it in doubt."""
    port.open("cabins", "bank", charge=failing(1), external=external, retry=ALWAYS)
    id = port.start(FINAL)
    port.settle()
    assert port.states("bank.charge") == ["pending"]
    cancel(port, id)
    port.settle()
    if not external:  # its failed run left nothing, so it has not happened
        assert port.states("bank.charge") == ["revoked"]
        assert port.status(id) == "compensated"
        return
    assert port.states("bank.charge") == ["pending"]
    port.make_due("bank.charge")
    port.settle()
    assert (port.states("bank.charge"), port.status(id)) == (["done"], "completed")
    assert len(set(port.keys("bank.charge"))) == 1
    assert port.done == ["cabins.reserve", "bank.charge"]


class TestTwoAtOnce:
    """The saga gives up a command while a run of it fails."""

    def test_the_run_that_failed_first_is_seen_and_taken_back(self, port: Port) -> None:
        def close(*_: Any) -> None:
            raise ValueError("the bank is closed")

        port.open("cabins", "bank", charge=close, retry=ALWAYS)
        id = port.start()
        port.settle()
        assert port.states("bank.charge") == ["pending"]
        cancel(port, id)
        assert port.states("bank.charge") == ["revoked"]

    def test_who_gives_up_waits_for_a_run_that_has_failed_until_its_commit(
        self, port: Port
    ) -> None:
        port.open("cabins", "bank")
        id = port.start()
        port.runtime.answer("cabins")
        port.runtime.answer("saga.crossing")
        (row,) = port.deliveries("bank.charge")
        with port.runtime.engine.begin() as failing:
            unit = joined(failing)
            bank = Inbox("bank", port.runtime.settings.db_schema, port.runtime._wiring.statements)
            assert bank.given_up(unit, [row["message_id"]]) == {}
            with pytest.raises(Exception, match="lock timeout"):
                cancel(port, id, patience="200ms")
        cancel(port, id)
        assert port.states("bank.charge") == ["revoked"]


def test_a_call_under_a_lease_may_finish_and_is_undone(port: Port) -> None:
    port.open("cabins", "bank", charge=lambda *_: port.give_up(), external=True)
    id = port.start()
    port.settle()
    refunds = ["bank.refund"] * 2  # for the doubt, and for the success
    assert port.done == ["cabins.reserve", "bank.charge", *refunds, "cabins.release"]
    assert port.states("bank.charge") == ["done"]
    assert port.status(id) == "compensated"


class Frozen:
    """A bank that was frozen until its lease was over, and everybody had gone on without it."""

    def __init__(self, port: Port, ends: Exception | None = None) -> None:
        self.port = port
        self.ends = ends
        self.runs = 0
        #: The states of the charge, and what was done, when it woke.
        self.meanwhile: tuple[list[str], list[str]] = ([], [])

    def __call__(self, *_: Any) -> None:
        self.runs += 1
        self.port.rows(
            "UPDATE inbox SET due_at = now(), lease = gen_random_uuid() "
            "WHERE state = 'pending' AND lease IS NOT NULL RETURNING 1"
        )
        self.port.give_up()
        until = time.monotonic() + 20
        while "cabins.release" not in self.port.done and time.monotonic() < until:
            self.port.settle()
        self.meanwhile = (self.port.states("bank.charge"), list(self.port.done))
        if self.ends is not None:
            raise self.ends


@pytest.mark.parametrize("ends", [None, ValueError("the line was cut")])
def test_a_call_that_outlives_its_undoing_is_undone_once_more(
    port: Port, ends: Exception | None
) -> None:
    bank = Frozen(port, ends)
    port.open("cabins", "bank", charge=bank, external=True, retry=ALWAYS)
    id = port.start()
    port.settle()
    undone = ["cabins.reserve", "bank.refund", "cabins.release"]
    assert bank.meanwhile == (["revoked"], undone)
    done = [] if ends else ["bank.charge"]
    assert port.done == [*undone, *done, "bank.refund"]
    assert port.states("bank.charge") == ["done" if ends is None else "revoked"]
    assert (port.status(id), bank.runs) == ("compensated", 1)


def test_one_whose_worker_died_under_a_lease_is_not_started_again(port: Port) -> None:
    class Gone(Interrupt):
        """The worker is gone."""

    runs: list[int] = []

    def die(*_: Any) -> None:
        runs.append(1)
        if len(runs) == 1:
            raise Gone

    port.open("cabins", "bank", charge=die, external=True, retry=ALWAYS)
    id = port.start()
    with pytest.raises(Gone):
        port.settle()
    port.give_up()  # the lease is not over yet, for all that anybody knows
    assert port.states("bank.charge") == ["pending"]
    port.make_due("bank.charge")
    port.settle()
    assert (port.states("bank.charge"), runs) == (["revoked"], [1])
    # It may have been called at any time until the lease was over.
    refunds = ["bank.refund"] * 2
    assert sorted(port.done) == [*refunds, "cabins.release", "cabins.reserve"]
    assert port.status(id) == "compensated"


def test_a_command_that_is_not_given_up_is_tried_again_as_ever(port: Port) -> None:
    left = [ValueError("the bank is closed"), None]

    def charge(*_: Any) -> None:
        if error := left.pop(0):
            raise error

    port.open("cabins", "bank", "pier", charge=charge, retry=Retry(attempts=2))
    id = port.start()
    port.settle()
    port.make_due("bank.charge")
    port.settle()
    assert port.status(id) == "completed"
