"""Batches: many deliveries in one transaction, and each of them as if it were alone."""

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import text

import internals.database.connections
import internals.hop.batch
from internals import Work
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop import drain, hop
from internals.hop.consumer import Handled
from saga import Done, Rejected
from tests.internals.hop.depot import Pack, Packed, depot, silent, tell_packed


class TestBatch:
    def test_a_failing_handler_is_undone_alone(self, store: Any, command: Any, note: Any) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            work.publish(Packed(n=message.n))
            if message.n == 2:
                raise ValueError("no such shelf")

        store.send(*(command(Pack(n=n)) for n in range(5)))
        done = store.hop(depot(handle, emits=(Packed,)))
        assert (done.claimed, done.settled) == (5, 5)
        assert store.effects() == [0, 1, 3, 4]
        assert [row["payload"]["n"] for row in store.sent(Packed.kind)] == [0, 1, 3, 4]
        states = [(row["state"], row["attempts"]) for row in store.deliveries("depot")]
        assert states == [("done", 0), ("done", 0), ("pending", 1), ("done", 0), ("done", 0)]
        assert store.deliveries("depot")[2]["last_error"] == "ValueError: no such shelf"

    def test_one_that_has_written_and_raised_ran_once_and_those_before_it_again(
        self, store: Any, command: Any, note: Any
    ) -> None:
        runs: list[int] = []

        def handle(message: Pack, work: Work) -> None:
            runs.append(message.n)
            if message.n == 0:
                raise Rejected("before it has written anything")
            note(work, message.n)
            if message.n in (2, 3):
                raise Rejected("after it has")

        consumer = store.consumer(depot(handle))
        store.send(*(command(Pack(n=n)) for n in range(5)))
        assert hop(store.database, consumer).settled == 5
        # Without savepoints up to the first that raised; then with them, and what is known stays.
        assert runs == [0, 1, 2, 1, 3, 4]
        assert store.effects() == [1, 4]
        assert [row["last_error"] is not None for row in store.deliveries("depot")] == [
            *(True, False, True, True, False)
        ]
        runs.clear()
        store.send(*(command(Pack(n=n)) for n in (5, 2, 6)))
        hop(store.database, consumer)
        assert runs == [5, 2, 6]  # it takes care now
        assert store.effects() == [1, 4, 5, 6]

    def test_handlers_that_return_cost_no_savepoint(
        self, store: Any, command: Any, note: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)

        controlled: list[bytes] = []
        monkeypatch.setattr(
            SqlAlchemyUnitOfWork, "_control", lambda _, statements: controlled.append(statements)
        )
        store.send(*(command(Pack(n=n)) for n in range(3)))
        store.hop(depot(handle))
        assert store.effects() == [0, 1, 2]
        assert controlled == []

    def test_a_no_to_a_delivery_alone_is_settled_where_it_was_said(
        self, store: Any, command: Any, note: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between two transactions another worker could take it, and ask again."""

        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            raise Rejected("nothing is packed today")

        opened: list[None] = []
        begin = store.database.open
        monkeypatch.setattr(store.database, "open", lambda: opened.append(None) or begin())  # type: ignore[func-returns-value]
        store.send(command(Pack(n=1)))
        opened.clear()
        assert store.hop(depot(handle)).settled == 1
        assert len(opened) == 1
        assert store.effects() == []

    def test_a_handler_that_swallows_a_database_error_is_undone_alone(
        self, store: Any, command: Any, note: Any
    ) -> None:
        # Postgres has given up the transaction by then, though the handler returns as if not.
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n == 1:
                try:
                    work.connection.execute(text("SELECT 1/0"))
                except Exception:
                    return

        store.send(*(command(Pack(n=n)) for n in range(3)))
        assert store.hop(depot(handle)).settled == 3
        assert store.effects() == [0, 2]
        states = [(row["state"], row["attempts"]) for row in store.deliveries("depot")]
        assert states == [("done", 0), ("pending", 1), ("done", 0)]

    def test_also_one_that_runs_alone_under_a_lease(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            with suppress(Exception):
                work.connection.execute(text("SELECT 1/0"))

        message = command(Pack(n=1))
        store.send(message)
        store.suspect(message)
        store.drain(depot(handle))
        row = store.delivery(message)
        assert (row["state"], row["attempts"]) == ("pending", 1)
        assert "went on after a statement of its had failed" in row["last_error"]
        assert store.effects() == []

    def test_a_suspect_that_returns_is_done_once(self, store: Any, command: Any, note: Any) -> None:
        message = command(Pack(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        store.suspect(message)
        store.drain(depot(lambda message, work: note(work, message.n)))
        store.make_due()
        store.drain(depot(lambda message, work: note(work, message.n)))
        assert store.effects() == [1]
        assert store.delivery(message)["state"] == "done"
        assert len(store.sent(Done.kind)) == 1

    def test_a_handler_may_catch_a_database_error_within_its_own_savepoint(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            try:
                with work.connection.begin_nested():
                    note(work, 99)
                    work.connection.execute(text("SELECT 1/0"))
            except Exception:
                note(work, message.n)

        store.send(*(command(Pack(n=n)) for n in range(3)))
        assert store.hop(depot(handle)).settled == 3
        assert store.effects() == [0, 1, 2]
        assert {row["state"] for row in store.deliveries("depot")} == {"done"}

    def test_a_payload_that_does_not_fit_its_message_is_left_for_a_worker_that_can_read_it(
        self, store: Any, command: Any, note: Any
    ) -> None:
        good, bad = command(Pack(n=1)), command(Pack(n=2))
        store.send(good, bad)
        store.rows('UPDATE outbox SET payload = \'{"n": "x"}\' WHERE id = %s RETURNING id', bad.id)
        store.hop(depot(lambda message, work: note(work, message.n)))
        assert store.effects() == [1]
        row = store.delivery(bad)
        assert (row["state"], row["attempts"]) == ("pending", 0)
        assert row["last_error"].startswith(
            "cannot be read here: depot.pack: field n: Input should"
        )

    def test_slow_handlers_make_small_batches(self, store: Any, command: Any, note: Any) -> None:
        consumer = store.consumer(depot(lambda message, work: note(work, message.n)), budget=1e-9)
        store.send(*(command(Pack(n=n)) for n in range(10)))
        first = hop(store.database, consumer, 10)
        assert (first.claimed, first.settled, first.more) == (10, 1, True)
        second = hop(store.database, consumer, 10)
        assert (second.claimed, second.settled, second.more) == (1, 1, True)
        assert drain(store.database, consumer, silent, limit=10) == 8
        assert store.effects() == list(range(10))

    def test_fast_handlers_fill_the_batch(self, store: Any, command: Any, note: Any) -> None:
        context = depot(lambda message, work: note(work, message.n))
        store.send(*(command(Pack(n=n)) for n in range(10)))
        assert store.hop(context, 7) == Handled(claimed=7, settled=7, more=True)
        assert store.hop(context, 7) == Handled(claimed=3, settled=3, more=False)

    def test_a_batch_costs_as_many_statements_as_one_delivery(
        self, store: Any, command: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counting: Any = type("_CountingUnit", (_CountingUnit,), {"counts": []})
        monkeypatch.setattr(internals.database.connections, "SqlAlchemyUnitOfWork", counting)
        context = depot(tell_packed, emits=(Packed,))
        store.send(command(Pack()))
        store.hop(context)
        one = len(counting.counts)
        store.send(*(command(Pack()) for _ in range(20)))
        store.hop(context)
        assert len(counting.counts) - one == one


class _CountingUnit(SqlAlchemyUnitOfWork):
    counts: list[str]

    def run(self, statement: str, parameters: Any) -> Any:
        if "SAVEPOINT" not in statement:
            self.counts.append(statement)
        return super().run(statement, parameters)
