"""One saga's trouble, in its definition or in its row, is its own: the others of its name go on."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import model_validator

from internals import Context, Work
from internals.hop import hop
from saga import ActRefused, Done, Retry, Saga, Step, Wait
from tests.boundary.worlds.parallel_steps import (
    CONSUMER,
    MOVING,
    Call,
    Drive,
    Loaded,
    Move,
    Office,
    contexts,
    held,
    reply,
)


@pytest.fixture
def office(runtime: Any, outside: Any) -> Callable[..., Office]:
    def make(saga: Saga[Any] = MOVING, others: list[Context] | None = None) -> Office:
        return Office(runtime([saga], others or contexts()), outside)

    return make


class Renamed(Move):
    """What was stored by an older release is not there under its new name."""

    @model_validator(mode="before")
    @classmethod
    def find(cls, stored: Any) -> Any:
        if "old" in stored:
            stored["note"] = stored["new"]
        return stored


class TestReading:
    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            (
                """data = '{"n": 1, "old": ""}'""",
                "the stored data does not fit version 1 of moving",
            ),
            ('steps = \'{"load": {"phase": "paused"}}\'', "'paused' is not a valid Phase"),
            ('steps = \'{"load": {"phase": "done", "mood": 1}}\'', "argument 'mood'"),
            ('steps = \'{"load": {"generation": 1}}\'', "KeyError: 'phase'"),
            ("steps = '[]'", "AttributeError"),
        ],
        ids=["data", "phase", "field", "no phase", "list"],
    )
    def test_a_saga_that_cannot_be_read_here_is_left_and_the_others_go_on(
        self, office: Any, change: str, complaint: str
    ) -> None:
        busy = office(Saga("moving", Renamed, MOVING.steps))
        bad, good = busy.start(1, 2)
        busy.rows(f"UPDATE saga SET {change} WHERE id = %s RETURNING 1 AS one", bad)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        (left,) = [row for row in busy.deliveries() if row["saga_id"] == bad]
        assert (left["state"], left["attempts"]) == ("pending", 0)
        assert complaint in left["last_error"]


class TestWriting:
    def test_an_action_that_spoils_the_data_is_that_saga_s_trouble_alone(self, office: Any) -> None:
        def spoil(move: Move) -> Drive:
            if move.n == 1:
                move.note = object()  # type: ignore[assignment]
            return Drive(n=move.n)

        steps: tuple[Step[Move, Any], ...] = (
            Step("load", lambda move: Call(n=move.n)),
            Step("drive", spoil),
        )
        busy = office(saga := Saga("moving", Move, steps))
        bad, good = busy.start(1, 2, saga=saga)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        assert busy.saga(bad)["status"] == "stuck"
        assert "PayloadError: the saga's data" in busy.saga(bad)["reason"]


class TestUndoing:
    def test_a_compensation_that_raises_on_a_fault_leaves_it_stuck(self, office: Any) -> None:
        def compensation(move: Move) -> None:
            raise ZeroDivisionError("nobody to unload")

        phone = Context("phone")

        @phone.handles(Call, retry=Retry(attempts=1))
        def call(command: Call, work: Work) -> None:
            raise ValueError("no line")

        steps: tuple[Step[Move, Any], ...] = (
            Step("drive", lambda move: Drive(n=move.n), compensation=compensation),
            Step("call", lambda move: Call(n=move.n), on_fault="compensate"),
        )
        busy = office(saga := Saga("moving", Move, steps), [contexts()[0], phone])
        (id,) = busy.start(1, saga=saga)
        busy.settle()
        assert busy.saga(id)["status"] == "stuck"
        assert busy.saga(id)["reason"] == (
            "saga.faulted is parked at saga.moving: ZeroDivisionError: nobody to unload"
        )
        assert not busy.rows("SELECT 1 AS one FROM inbox WHERE state = 'pending'")

    def test_a_compensation_that_raises_on_a_cancel_refuses_it(self, office: Any) -> None:
        def compensation(move: Move) -> None:
            raise ZeroDivisionError("nobody to unload")

        drive = Step("drive", lambda move: Drive(n=move.n), compensation=compensation)
        busy = office(saga := Saga("moving", Move, (drive, Wait("key", until=Loaded))))
        (id,) = busy.start(1, saga=saga)
        busy.settle()
        with (
            pytest.raises(ActRefused, match="its definition raised ZeroDivisionError: nobody"),
            busy.runtime.engine.begin() as connection,
        ):
            busy.runtime.cancel(connection, id, reason="rain", actor="ann")
        assert busy.saga(id)["status"] == "running"


class TestHeld:
    def test_one_that_is_held_does_not_keep_the_others_waiting_however_much_is_due_to_it(
        self, office: Any
    ) -> None:
        busy = office()
        mine, other = busy.start(1, 2)
        busy.runtime.answer("van")
        busy.rows(
            "UPDATE inbox SET due_at = now() - interval '1 hour' WHERE saga_id = %s "
            "AND state = 'pending' RETURNING 1 AS one",
            mine,
        )
        with held(busy, mine):
            handled = hop(
                busy.runtime._wiring.database, busy.runtime._wiring.consumers[CONSUMER], 1
            )
            assert (handled.claimed, handled.settled, handled.more) == (2, 1, True)
        assert list(busy.saga(other)["steps"]) == ["load", "call", "drive"]
        assert list(busy.saga(mine)["steps"]) == ["load"]
        busy.settle()
        assert busy.saga(mine)["status"] == busy.saga(other)["status"] == "completed"
        busy.check_history()

    def test_what_belongs_to_no_saga_is_claimed_once_though_it_fills_the_batch(
        self, office: Any
    ) -> None:
        busy = office()
        (mine,) = busy.start(1)
        busy.runtime.answer("van")
        astray = [replace(reply(mine, Done(), root=uuid4()), saga_id=None) for _ in range(2)]
        busy.send(*astray)
        busy.rows("UPDATE inbox SET due_at = now() - interval '1 hour' RETURNING 1 AS one")
        with held(busy, mine):
            handled = hop(
                busy.runtime._wiring.database, busy.runtime._wiring.consumers[CONSUMER], 3
            )
            assert handled.claimed == 3
            assert [busy.delivery(message)["state"] for message in astray] == ["parked"] * 2
            handled = hop(
                busy.runtime._wiring.database, busy.runtime._wiring.consumers[CONSUMER], 1
            )
            assert (handled.claimed, handled.settled) == (1, 0)

    def test_nothing_but_what_belongs_to_no_saga_is_no_endless_search(self, office: Any) -> None:
        busy = office()
        (mine,) = busy.start(1)
        astray = replace(reply(mine, Done(), root=uuid4()), saga_id=None)
        busy.send(astray)
        handled = hop(busy.runtime._wiring.database, busy.runtime._wiring.consumers[CONSUMER], 1)
        assert (handled.claimed, handled.settled) == (1, 1)
        assert busy.delivery(astray)["state"] == "parked"

    def test_with_nothing_else_due_it_is_looked_at_again(self, office: Any) -> None:
        busy = office()
        (id,) = busy.start(1)
        busy.runtime.answer("van")
        with held(busy, id):
            handled = hop(
                busy.runtime._wiring.database, busy.runtime._wiring.consumers[CONSUMER], 1
            )
        assert (handled.claimed, handled.settled, handled.more) == (1, 0, True)
