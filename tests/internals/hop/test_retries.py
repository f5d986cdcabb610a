"""Retries: attempts, backoff, and the end; and handlers that try to end the transaction."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

import internals.database.connections
import internals.hop.batch
from internals import Work
from internals.hop.consumer import Handled
from saga import Done, Faulted, Retry
from tests.internals.hop.depot import Pack, depot, fail


def _commit(work: Work) -> None:
    work.connection.commit()


def _rollback(work: Work) -> None:
    work.connection.rollback()


def _commit_transaction(work: Work) -> None:
    work.connection.get_transaction().commit()


def _session_rollback(work: Work) -> None:
    session = Session(work.connection)
    session.connection()
    session.rollback()


class TestCommitInAHandler:
    @pytest.mark.parametrize("act", [_commit, _rollback, _commit_transaction, _session_rollback])
    def test_it_is_refused_and_nothing_is_lost(
        self, store: Any, command: Any, note: Any, act: Callable[[Work], None]
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n == 1:
                act(work)
                note(work, 100)

        sent = [command(Pack(n=n), saga="trip", awaits=(Done.kind,)) for n in range(3)]
        store.send(*sent)
        context = depot(handle)
        store.drain(context)
        assert store.effects() == [0, 2]
        assert [row["state"] for row in store.deliveries("depot")] == ["done", "pending", "done"]
        row = store.delivery(sent[1])
        assert row["attempts"] == 1
        assert "a handler must not commit or roll back" in row["last_error"]
        assert len(store.sent(Done.kind)) == 2

    @pytest.mark.parametrize("act", [_commit, _rollback, _commit_transaction, _session_rollback])
    def test_where_nobody_writes_after_it_the_batch_is_committed_all_the_same(
        self, store: Any, command: Any, note: Any, act: Callable[[Work], None]
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n == 2:
                act(work)

        store.send(*(command(Pack(n=n)) for n in range(3)))
        store.hop(depot(handle))
        assert store.effects() == [0, 1]
        assert [row["attempts"] for row in store.deliveries("depot")] == [0, 0, 1]

    @pytest.mark.parametrize("act", [_commit, _rollback, _commit_transaction, _session_rollback])
    def test_it_is_refused_to_one_that_runs_alone_under_a_lease_too(
        self, store: Any, command: Any, note: Any, act: Callable[[Work], None]
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            act(work)

        message = command(Pack(n=1))
        store.send(message)
        store.suspect(message)
        store.drain(depot(handle))
        assert store.effects() == []
        row = store.delivery(message)
        assert (row["state"], row["attempts"]) == ("pending", 1)
        assert "a handler must not commit or roll back" in row["last_error"]

    @pytest.mark.parametrize("act", [_commit, _rollback])
    def test_swallowing_the_refusal_does_not_lose_the_batch(
        self, store: Any, command: Any, note: Any, act: Callable[[Work], None]
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n == 1:
                with pytest.raises(Exception, match="must not commit"):
                    act(work)

        sent = [command(Pack(n=n)) for n in range(3)]
        store.send(*sent)
        store.drain(depot(handle))
        for message in sent:
            n = sent.index(message)
            assert (n in store.effects()) is (store.delivery(message)["state"] == "done")
        assert {0, 2} <= set(store.effects())

    def test_a_session_of_the_handler_s_own_may_commit_and_all_commits_together(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            with Session(work.connection) as session:
                session.execute(text("INSERT INTO effect VALUES (:n)"), {"n": message.n})
                session.commit()
            assert store.effects() == []  # not before the delivery is done
            if message.n == 1:
                raise ValueError

        store.send(*(command(Pack(n=n)) for n in range(2)))
        store.hop(depot(handle))
        assert store.effects() == [0]
        assert [row["state"] for row in store.deliveries("depot")] == ["done", "pending"]


class TestRetries:
    def test_waits_are_due_times_in_postgres_and_double(
        self, store: Any, command: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(internals.hop.batch.random, "random", lambda: 0.5)  # type: ignore[attr-defined]
        context = depot(fail, retry=Retry(attempts=4))
        message = command(Pack())
        store.send(message)
        for attempt, wait in enumerate([0.5, 1.0, 2.0], start=1):
            before = store.clock()
            store.hop(context)
            after = store.clock()
            row = store.delivery(message)
            assert (row["state"], row["attempts"]) == ("pending", attempt)
            assert (row["due_at"] - before).total_seconds() >= wait
            assert (row["ring_at"] - after).total_seconds() <= wait
            assert row["ring_at"] >= row["due_at"]  # rung before, it would find nothing
            store.make_due()

    def test_what_waits_is_not_run_before_it_is_due(self, store: Any, command: Any) -> None:
        context = depot(fail, retry=Retry(attempts=9))
        message = command(Pack())
        store.send(message)
        store.hop(context)
        store.rows("UPDATE inbox SET due_at = now() + interval '1 hour' RETURNING 1 AS one")
        assert store.hop(context) == Handled()
        assert store.delivery(message)["attempts"] == 1

    def test_after_its_attempts_it_is_parked_and_the_saga_is_told(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            raise ValueError("no such shelf")

        context = depot(handle, retry=Retry(attempts=3))
        message = command(Pack(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        for _ in range(5):
            store.drain(context)
            store.make_due()
        row = store.delivery(message)
        assert (row["state"], row["attempts"]) == ("parked", 3)
        assert row["last_error"] == "ValueError: no such shelf"
        assert row["done_at"] is not None
        assert store.effects() == []
        (told,) = store.sent(Faulted.kind)
        assert told["recipient"] == "saga.trip"
        assert told["root_id"] == message.id
        assert told["payload"] == {
            "consumer": "depot",
            "message_kind": "depot.pack",
            "error": "ValueError: no such shelf",
            "external": False,
        }
        assert [r["kind"] for r in store.deliveries("saga.trip")] == [Faulted.kind]

    def test_outside_any_saga_it_is_parked_and_nobody_is_told(
        self, store: Any, command: Any
    ) -> None:
        message = command(Pack())
        store.send(message)
        assert store.hop(depot(fail, retry=Retry(attempts=1))).woken == frozenset()
        assert store.delivery(message)["state"] == "parked"
        assert len(store.rows("SELECT * FROM outbox")) == 1

    @pytest.mark.parametrize(("handler", "step", "state"), [(1, 2, "pending"), (2, 1, "parked")])
    def test_the_step_s_policy_goes_before_the_handler_s(
        self, store: Any, command: Any, handler: int, step: int, state: str
    ) -> None:
        message = command(Pack(), retry=Retry(attempts=step))
        store.send(message)
        store.hop(depot(fail, retry=Retry(attempts=handler)))
        assert store.delivery(message)["state"] == state

    def test_an_error_whose_text_postgres_refuses_is_still_counted(
        self, store: Any, command: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("CRITICAL", "internals")  # the runner cannot pass such a text on either

        def handle(message: Pack, work: Work) -> None:
            raise ValueError("\x00 \ud800 " + "x" * 5000)

        message = command(Pack(), saga="trip", retry=Retry(attempts=1))
        store.send(message)
        store.hop(depot(handle))
        row = store.delivery(message)
        assert row["state"] == "parked"
        assert row["last_error"].startswith("ValueError: \\0 \\ud800 xxx")
        assert len(row["last_error"]) == 2000
        assert len(store.sent(Faulted.kind)[0]["payload"]["error"]) == 500

    def test_an_error_that_cannot_even_be_written_down_is_still_counted(
        self, store: Any, command: Any, note: Any
    ) -> None:
        class Mute(Exception):
            def __str__(self) -> str:
                raise RuntimeError("no words")

        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n == 1:
                raise Mute

        store.send(*(command(Pack(n=n)) for n in range(3)))
        store.hop(depot(handle))
        assert store.effects() == [0, 2]
        assert [row["attempts"] for row in store.deliveries("depot")] == [0, 1, 0]
