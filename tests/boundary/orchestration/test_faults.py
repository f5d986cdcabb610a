"""What fails for good at a step, or at the saga itself, and what a saga that another has does."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import BaseModel

from internals import Context, Work
from internals.database.unit_of_work import joined
from internals.hop import hop
from saga import Command, Event, PayloadError, Replayed, Retry, Saga, Step, Wait
from tests.boundary.worlds.parallel_steps import (
    CONSUMER,
    MOVING,
    Call,
    Load,
    Loaded,
    Move,
    Office,
    contexts,
    held,
    moving,
)


def _raise(move: Move, outcome: Any) -> Move:
    raise ZeroDivisionError("on the third floor")


class TestFault:
    def test_a_function_that_raises_parks_its_message_and_the_saga_is_stuck(
        self, office: Any
    ) -> None:
        def keep_or_raise(move: Move, outcome: Any) -> Move:
            return _raise(move, outcome) if move.n == 1 else move

        busy = office(moving(on_success=keep_or_raise), contexts=contexts())
        bad, good = busy.start(1, 2)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        row = busy.saga(bad)
        assert row["status"] == "stuck"
        assert row["reason"] == (
            "van.loaded is parked at saga.moving: ZeroDivisionError: on the third floor"
        )
        (parked,) = busy.rows("SELECT * FROM inbox WHERE state = 'parked'")
        assert parked["last_error"] == "ZeroDivisionError: on the third floor"
        assert parked["attempts"] == 1
        assert not busy.rows("SELECT 1 AS one FROM inbox WHERE state = 'pending'")

    @pytest.mark.parametrize("note", ["a\x00b", "\ud800"], ids=["NUL", "surrogate"])
    def test_data_that_postgres_cannot_hold_is_that_saga_s_trouble_alone(
        self, office: Any, note: str
    ) -> None:
        def spoil(move: Move, outcome: Any) -> Move:
            return move.model_copy(update={"note": note}) if move.n == 1 else move

        busy = office(moving(on_success=spoil), contexts=contexts())
        bad, good = busy.start(1, 2)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        assert busy.saga(bad)["status"] == "stuck"
        assert "PayloadError" in busy.saga(bad)["reason"]

    def test_a_command_too_large_is_that_saga_s_trouble_alone(self, office: Any) -> None:
        class Letter(Command, kind="phone.letter"):
            text: str

        saga = Saga(
            name="moving",
            data=Move,
            steps=(
                Step("load", lambda move: Load(n=move.n), until=Loaded),
                Step(
                    "letter",
                    lambda move: Letter(text="x" * 300_000) if move.n == 1 else None,
                ),
            ),
        )
        busy = office(saga, contexts=contexts())
        bad, good = busy.start(1, 2, saga=saga)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        assert busy.saga(bad)["status"] == "stuck"
        assert "the limit is" in busy.saga(bad)["reason"]

    def test_data_that_grows_too_large_is_that_saga_s_trouble_alone(self, office: Any) -> None:
        def grow(move: Move, outcome: Any) -> Move:
            return move.model_copy(update={"note": "x" * 300_000}) if move.n == 1 else move

        busy = office(moving(on_success=grow), contexts=contexts())
        bad, good = busy.start(1, 2)
        busy.settle()
        assert busy.saga(good)["status"] == "completed"
        assert busy.saga(bad)["status"] == "stuck"
        assert "the data after van.loaded has 300," in busy.saga(bad)["reason"]

        # Nor may whoever mends it: a host that goes on and commits has changed nothing.
        before = busy.saga(bad)
        act = Replayed(reason="shorter", data={"note": "y" * 300_000})
        with (
            busy.runtime.engine.begin() as connection,
            pytest.raises(PayloadError, match=r"has 300,.* bytes and the limit is 262,144"),
        ):
            busy.runtime._administration.acts.act(joined(connection), bad, act, actor="ann")
        assert busy.saga(bad) == before

    def test_what_comes_early_is_kept_up_to_the_same_limit(self, office: Any) -> None:
        class Signed(Event, kind="people.signed"):
            text: str

        saga = Saga(
            name="moving",
            data=Move,
            steps=(
                Step("load", lambda move: Load(n=move.n), until=Loaded),
                Wait("sign", until=Signed),
            ),
        )
        busy = office(saga, contexts=contexts())
        (id,) = busy.start(1, saga=saga)
        with busy.runtime.engine.begin() as connection:
            for _ in range(3):
                busy.runtime.signal(connection, id, Signed(text="x" * 100_000))
        busy.runtime.answer(CONSUMER)
        states = sorted(row["state"] for row in busy.deliveries() if row["kind"] == Signed.kind)
        assert states == ["done", "done", "parked"]

    def test_stored_data_that_no_longer_fits_is_left_for_a_release_that_can_read_it(
        self, office: Any
    ) -> None:
        class Narrow(BaseModel):
            n: int
            van: str  # new, and without a default: nothing that is stored has it

        steps: tuple[Any, ...] = MOVING.steps
        old = office(contexts=contexts())
        new = office(
            Saga(name="moving", data=Narrow, steps=steps),  # and no new version
            contexts=contexts(),
        )
        (id,) = old.start(1)
        old.runtime.answer("van")
        before = len(old.rows("SELECT id FROM outbox"))
        for _ in range(3):
            hop(new.runtime._wiring.database, new.runtime._wiring.consumers[CONSUMER])
            new.make_due()
        assert len(old.rows("SELECT id FROM outbox")) == before  # it talks to nobody about it
        (row,) = old.deliveries()
        assert row["state"] == "pending"
        assert "does not fit" in row["last_error"]
        old.settle()
        assert old.saga(id)["status"] == "completed"

    def test_a_handler_that_fails_for_good_makes_the_saga_stuck(self, office: Any) -> None:
        van, _ = contexts()
        broken = Context("phone")

        @broken.handles(Call, retry=Retry(attempts=1))
        def call(command: Call, work: Work) -> None:
            raise ValueError("no line")

        busy = office(contexts=[van, broken])
        (id,) = busy.start(1)
        busy.settle()
        row = busy.saga(id)
        assert row["status"] == "stuck"
        assert row["reason"] == ("step call: phone.call is parked at phone: ValueError: no line")
        busy.check_history()


class TestHeld:
    def test_a_saga_that_another_transaction_holds_is_left_and_found_again(
        self, busy: Office
    ) -> None:
        one, two = busy.start(1, 2)
        busy.runtime.answer("van")
        orchestrator = busy.runtime._wiring.consumers[CONSUMER]
        with held(busy, one):
            handled = hop(busy.runtime._wiring.database, orchestrator)
            assert (handled.claimed, handled.settled, handled.more) == (2, 1, True)
            handled = hop(busy.runtime._wiring.database, orchestrator)
            assert (handled.claimed, handled.settled, handled.more) == (1, 0, True)
        assert list(busy.saga(two)["steps"]) == ["load", "call", "drive"]
        assert list(busy.saga(one)["steps"]) == ["load"]
        busy.settle()
        assert busy.saga(one)["status"] == busy.saga(two)["status"] == "completed"
        busy.check_history()

    def test_a_drain_waits_for_it(
        self, busy: Office, eventually: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (id,) = busy.start(1)
        busy.runtime.answer("van")
        orchestrator = busy.runtime._wiring.consumers[CONSUMER]
        looks: list[Any] = []
        handle = orchestrator.handle

        def look(hop: Any, limit: int) -> Any:
            looks.append(handle(hop, limit))
            return looks[-1]

        monkeypatch.setattr(orchestrator, "handle", look)
        with ThreadPoolExecutor(1) as pool:
            with held(busy, id):
                running = pool.submit(busy.runtime.answer, CONSUMER)
                eventually(lambda: len(looks) > 1, what="a second look")
            running.result(20)
        busy.settle()
        assert busy.saga(id)["status"] == "completed"
        assert looks[0].settled == 0

    def test_many_workers_fold_each_outcome_once(self, office: Any) -> None:
        workers = [office(contexts=contexts(refuse=lambda n: n % 3 == 0)) for _ in range(4)]
        ids = workers[0].start(*range(60))
        with ThreadPoolExecutor(4) as pool:
            for run in [pool.submit(worker.settle) for worker in workers]:
                run.result(60)
        workers[0].make_due()
        workers[0].settle()
        statuses = [workers[0].saga(id)["status"] for id in ids]
        assert statuses == ["compensated" if n % 3 == 0 else "completed" for n in range(60)]
        workers[0].check_history()
