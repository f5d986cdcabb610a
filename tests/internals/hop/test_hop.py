"""The hop on real Postgres: one transaction, whatever happens inside it."""

import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from uuid import UUID

import psycopg
import psycopg.errors
import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

import internals.database.connections
import internals.hop.batch
from internals import Context, Work
from internals.database.commit_points import Boundary
from internals.database.lock_waits import GaveWay
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop import drain, hop
from internals.hop.consumer import Handled
from internals.hop.unhandled import SHORTEST_DELAY
from saga import Command, Done, Event, Faulted, Refused, Rejected, Retry


class Pack(Command, kind="depot.pack"):
    n: int = 0


class Label(Command, kind="depot.label"):
    n: int = 0


class Packed(Event, kind="depot.packed"):
    n: int = 0


Handle = Callable[[Pack, Work], None]


def depot(handle: Handle, **declared: Any) -> Context:
    """A context whose one handler is this function."""
    context = Context("depot")
    context.handles(Pack, **declared)(handle)
    return context


def silent(_: frozenset[str]) -> None:
    """Ring nobody."""


def nothing(_: Command, work: Work) -> None:
    """A handler that has nothing to do."""


def tell_packed(_: Pack, work: Work) -> None:
    work.publish(Packed())


def order_label(_: Pack, work: Work) -> None:
    work.send(Label())


class TestClaim:
    def test_it_skips_what_another_transaction_holds(self, store: Any, command: Any) -> None:
        sent = [command(Pack(n=n)) for n in range(3)]
        store.send(*sent)
        inbox = store.inbox("depot")
        with store.transaction() as two:
            with store.transaction() as one:
                held, _ = inbox.claim(one, 2)
                rest, _ = inbox.claim(two, 10)
                assert len(held) == 2
                assert {d.message.id for d in [*held, *rest]} == {m.id for m in sent}
                assert len(rest) == 1
            again, _ = inbox.claim(two, 10)  # what a killed worker held is free at once
            assert {d.message.id for d in again} == {m.id for m in sent}

    def test_a_second_worker_runs_the_others_while_one_is_in_a_handler(
        self, store: Any, command: Any, note: Any
    ) -> None:
        inside, leave = threading.Event(), threading.Event()

        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n == 0:
                inside.set()
                assert leave.wait(20)

        context = depot(handle)
        store.send(command(Pack(n=0)))
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(store.hop, context)
            assert inside.wait(20)
            store.send(command(Pack(n=1)), command(Pack(n=2)))
            assert store.drain(context) == 2
            assert store.effects() == [1, 2]
            leave.set()
            assert first.result(20) == Handled(claimed=1, settled=1, more=False)
        assert store.effects() == [0, 1, 2]

    def test_a_repeated_doorbell_finds_nothing(self, store: Any, command: Any, note: Any) -> None:
        context = depot(lambda message, work: note(work, message.n))
        store.send(command(Pack(n=1)))
        assert [store.drain(context) for _ in range(3)] == [1, 0, 0]
        assert store.effects() == [1]

    def test_many_workers_do_each_delivery_once(self, store: Any, command: Any, note: Any) -> None:
        context = depot(lambda message, work: note(work, message.n))
        store.send(*(command(Pack(n=n)) for n in range(300)))
        with ThreadPoolExecutor(6) as pool:
            settled = list(pool.map(lambda _: store.drain(context, limit=8), range(6)))
        assert sum(settled) == 300
        assert store.effects() == list(range(300))


class Injected(Exception):
    """What a test makes go wrong."""


class TestOneTransaction:
    """An error at any statement, before or after it ran, leaves all of it or nothing."""

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_an_error_at_any_statement_leaves_nothing_half_done(
        self, store: Any, command: Any, note: Any, monkeypatch: pytest.MonkeyPatch, when: str
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            work.publish(Packed(n=message.n))

        context = depot(handle, emits=(Packed,), retry=Retry(attempts=1000))
        failing = _FailingUnit.at(when)
        monkeypatch.setattr(internals.database.connections, "SqlAlchemyUnitOfWork", failing)
        struck = 0
        for n in range(1, 100):
            message = command(Pack(n=n), saga="trip", awaits=(Done.kind,))
            store.send(message)
            failing.countdown = n
            try:
                store.hop(context)
            except Injected:
                struck += 1
            done = store.delivery(message)["state"] == "done"
            assert (n in store.effects()) is done
            assert _sent_by(store, message.id) == ([Packed.kind, Done.kind] if done else [])
            if failing.countdown > 0:
                break  # there are no more statements
            failing.countdown = 0
            store.make_due()
            store.drain(context)
            assert store.delivery(message)["state"] == "done"
            assert store.effects() == list(range(1, n + 1))
        else:
            pytest.fail("the hop never came to an end")
        assert struck == 2  # the claim, and what settles and sends

    @pytest.mark.parametrize(("when", "effects"), [("before", []), ("after", [1])])
    def test_an_error_at_the_commit_leaves_all_or_nothing(
        self, store: Any, command: Any, note: Any, strike: Any, when: str, effects: list[int]
    ) -> None:
        context = depot(lambda message, work: note(work, message.n))
        message = command(Pack(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        strike(Boundary.HOP, when, Injected())
        with pytest.raises(Injected):
            store.hop(context)
        assert store.effects() == effects
        assert _sent_by(store, message.id) == [Done.kind] * len(effects)
        assert store.delivery(message)["state"] == ("done" if effects else "pending")
        assert store.drain(context) == 1 - len(effects)
        assert store.effects() == [1]

    @pytest.mark.parametrize("when", ["before", "after"])
    def test_a_commit_of_which_nobody_knows_is_found_out_by_reading(
        self, store: Any, command: Any, note: Any, strike: Any, when: str
    ) -> None:
        context = depot(lambda message, work: note(work, message.n))
        store.send(*(command(Pack(n=n), saga="trip", awaits=(Done.kind,)) for n in range(3)))
        strike(Boundary.HOP, when, psycopg.OperationalError("the connection is lost"))
        store.drain(context)
        assert store.effects() == [0, 1, 2]
        assert len(store.sent(Done.kind)) == 3

    def test_a_dead_connection_before_the_commit_leaves_nothing(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if next(kills, False):
                pid = work.connection.connection.dbapi_connection.info.backend_pid
                store.rows("SELECT pg_terminate_backend(%s)", pid)

        kills = iter([True])
        message = command(Pack(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        assert store.drain(depot(handle)) == 1
        assert store.effects() == [1]
        assert store.delivery(message)["attempts"] == 0
        assert _sent_by(store, message.id) == [Done.kind]

    @pytest.mark.parametrize("count", [1, 3])
    def test_a_connection_that_dies_under_a_handler_is_no_failure_of_the_handler(
        self, store: Any, command: Any, note: Any, count: int
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if next(kills, False):
                work.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

        kills = iter([True])
        store.send(*(command(Pack(n=n)) for n in range(count)))
        assert store.drain(depot(handle)) == count
        assert store.effects() == list(range(count))
        assert [row["attempts"] for row in store.deliveries("depot")] == [0] * count


class _FailingUnit(SqlAlchemyUnitOfWork):
    """Raises at the n-th of the framework's statements."""

    countdown = 0
    when = "before"

    @classmethod
    def at(cls, when: str) -> "type[_FailingUnit]":
        return type("_FailingUnit", (cls,), {"when": when})

    def run(self, statement: str, parameters: Any) -> Any:
        kind = type(self)
        if "SAVEPOINT" in statement:  # what may fail in there is the next class's matter
            return super().run(statement, parameters)
        kind.countdown -= 1
        if kind.countdown == 0 and self.when == "before":
            raise Injected
        rows = super().run(statement, parameters)
        if kind.countdown == 0:
            raise Injected
        return rows


def _sent_by(store: Any, cause: UUID) -> list[str]:
    rows = store.rows("SELECT kind FROM outbox WHERE causation_id = %s ORDER BY seq", cause)
    return [row["kind"] for row in rows]


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
        monkeypatch.setattr(store.database, "open", lambda: opened.append(None) or begin())
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
        counting = type("_CountingUnit", (_CountingUnit,), {"counts": []})
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


class TestAnswers:
    def test_a_rejection_undoes_the_handler_and_tells_the_saga(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            work.publish(Packed(n=message.n))
            if message.n == 1:
                raise Rejected("it does not fit")

        sent = [command(Pack(n=n), saga="trip", awaits=(Packed.kind, Done.kind)) for n in range(3)]
        store.send(*sent)
        assert store.hop(depot(handle, emits=(Packed,))).woken == {"saga.trip"}
        assert store.effects() == [0, 2]
        assert _sent_by(store, sent[1].id) == [Refused.kind]
        row = store.delivery(sent[1])
        assert (row["state"], row["last_error"]) == ("done", "rejected: it does not fit")
        (reply,) = store.sent(Refused.kind)
        assert reply["payload"] == {"reason": "it does not fit"}
        assert reply["recipient"] == "saga.trip"
        assert reply["saga_id"] == sent[1].saga_id
        assert reply["root_id"] == reply["causation_id"] == sent[1].id

    def test_a_rejection_outside_any_saga_is_kept_with_the_delivery(
        self, store: Any, command: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            raise Rejected("closed")

        message = command(Pack())
        store.send(message)
        store.hop(depot(handle))
        assert store.delivery(message)["last_error"] == "rejected: closed"
        assert _sent_by(store, message.id) == []

    def test_words_that_postgres_refuses_do_not_keep_a_rejection_from_arriving(
        self, store: Any, command: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            raise Rejected("a NUL \x00 and half a pair \ud800")

        message = command(Pack(), saga="trip")
        store.send(message)
        store.hop(depot(handle))
        assert store.delivery(message)["state"] == "done"
        assert store.sent(Refused.kind)[0]["payload"] == {
            "reason": "a NUL \\0 and half a pair \\ud800"
        }

    def test_done_is_the_answer_to_the_command_of_the_step_only(
        self, store: Any, command: Any
    ) -> None:
        context = depot(order_label, emits=(Label,))
        context.handles(Label)(nothing)
        root = command(Pack(), saga="trip", awaits=(Done.kind,))
        store.send(root)
        assert [store.drain(context), store.drain(context)] == [1, 1]
        (label,) = store.sent(Label.kind)
        assert label["root_id"] == root.id
        assert label["awaits"] == [Done.kind]
        (reply,) = store.sent(Done.kind)
        assert reply["causation_id"] == root.id
        assert reply["sender"] == "depot"
        assert [row["state"] for row in store.deliveries("saga.trip")] == ["pending"]

    def test_a_command_that_waits_for_an_event_is_not_answered(
        self, store: Any, command: Any
    ) -> None:
        store.send(command(Pack(), saga="trip", awaits=(Packed.kind,)))
        done = store.hop(depot(tell_packed, emits=(Packed,)))
        assert done.woken == {"saga.trip"}
        assert [row["kind"] for row in store.deliveries("saga.trip")] == [Packed.kind]


class TestConflicts:
    def test_a_hop_that_waited_in_vain_ends_the_turn_and_says_so(self, store: Any) -> None:
        """Whoever rests the consumer then has its threads free for others."""
        hops: list[int] = []

        class Crowded:
            name = "depot"

            def handle(self, *_: Any) -> Handled:
                hops.append(1)
                raise GaveWay("another transaction holds an ordering key")

        gave_way: list[str] = []
        settled = drain(
            store.database, Crowded(), lambda _: None, gave_way=lambda: gave_way.append("depot")
        )
        assert (settled, len(hops), gave_way) == (0, 1, ["depot"])

    def test_after_a_transient_error_the_batch_is_run_one_by_one(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n == 2 and next(conflicts, False):
                raise psycopg.errors.SerializationFailure("could not serialize access")

        conflicts = iter([True])
        consumer = _Recorded(store.consumer(depot(handle)))
        for n in range(6):
            store.send(command(Pack(n=n)))
        assert drain(store.database, consumer, silent, limit=4) == 6
        assert consumer.limits == [4, 1, 1, 1, 1, 4]
        assert store.effects() == list(range(6))
        assert {row["attempts"] for row in store.deliveries("depot")} == {0}

    def test_one_that_gives_way_alone_is_run_again_and_no_failure_is_counted(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if next(conflicts, False):
                raise psycopg.errors.DeadlockDetected("deadlock detected")

        conflicts = iter([True, True])
        message = command(Pack(n=1), retry=Retry(attempts=1))
        store.send(message)
        for _ in range(2):
            store.hop(depot(handle))
            row = store.delivery(message)
            assert (row["state"], row["attempts"]) == ("pending", 0)
            assert row["last_error"] == "DeadlockDetected: deadlock detected"
            store.make_due()
        store.hop(depot(handle))
        assert store.delivery(message)["state"] == "done"
        assert store.effects() == [1]

    def test_two_batches_that_deadlock_end_with_every_effect_once(
        self, store: Any, command: Any, note: Any, outside: Any
    ) -> None:
        outside.execute("CREATE TABLE shelf (n int PRIMARY KEY, boxes int NOT NULL)")
        outside.execute("INSERT INTO shelf VALUES (1, 0), (2, 0)")
        met = threading.Barrier(2)
        struck = []

        def fill(rows: list[int], first: Iterator[bool]) -> Handle:
            def handle(message: Pack, work: Work) -> None:
                try:
                    work.connection.execute(
                        text("UPDATE shelf SET boxes = boxes + 1 WHERE n = :n"),
                        {"n": rows[message.n]},
                    )
                except Exception as error:
                    struck.append(error)
                    raise
                note(work, rows[message.n])
                if next(first, False):
                    met.wait(20)  # each batch holds one row now and will want the other

            return handle

        class Store(Command, kind="annex.store"):
            n: int = 0

        up, down = depot(fill([1, 2], iter([True]))), Context("annex")
        down.handles(Store)(fill([2, 1], iter([True])))
        store.send(*(command(kind(n=n)) for kind in (Pack, Store) for n in range(2)))
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(store.drain, (up, down))) == [2, 2]
        assert len(struck) == 1  # it did happen
        assert store.rows("SELECT * FROM shelf ORDER BY n") == [
            {"n": 1, "boxes": 2},
            {"n": 2, "boxes": 2},
        ]
        assert store.effects() == [1, 1, 2, 2]
        rows = store.deliveries("depot") + store.deliveries("annex")
        assert [(row["state"], row["attempts"]) for row in rows] == [("done", 0)] * 4

    def test_only_one_worker_at_a_time_takes_a_batch_of_a_context(
        self, store: Any, command: Any
    ) -> None:
        store.send(*(command(Pack(n=n)) for n in range(10)))
        inbox = store.inbox("depot")
        with store.transaction() as two:
            with store.transaction() as one:
                batch, _ = inbox.claim(one, 4)
                single, size = inbox.claim(two, 4)
                assert (len(batch), len(single), size) == (4, 1, 1)
                assert inbox.claim(two, 4, beside=0) == ([], 0)
            batch, size = inbox.claim(two, 4)
            assert (len(batch), size) == (4, 4)

    def test_where_handlers_are_quick_others_take_nothing_beside_a_batch(
        self, store: Any, command: Any, note: Any
    ) -> None:
        store.send(*(command(Pack(n=n)) for n in range(10)))
        context = depot(lambda message, work: note(work, message.n))
        with store.transaction() as other:
            store.inbox("depot").claim(other, 4)
            assert store.hop(context, 4) == Handled(more=True, missed=True)
        assert store.effects() == []

    def test_but_not_for_ever_since_who_has_the_batch_may_have_been_stopped(
        self, store: Any, command: Any, note: Any
    ) -> None:
        store.send(*(command(Pack(n=n)) for n in range(6)))
        consumer = _Recorded(store.consumer(depot(lambda message, work: note(work, message.n))))
        with store.transaction() as stopped:
            store.inbox("depot").claim(stopped, 4)
            drain(store.database, consumer, silent, limit=4)
            assert len(store.effects()) == 2
        assert consumer.limits == [4] * 12 + [1, 1, 1]  # two, and a look for more

    def test_a_conflict_that_never_ends_is_left_to_the_relay(self, store: Any) -> None:
        consumer = _Raising(psycopg.errors.DeadlockDetected())
        with pytest.raises(psycopg.errors.DeadlockDetected):
            drain(store.database, consumer, silent)
        assert 2 <= consumer.calls <= 10

    def test_one_lost_connection_is_enough_to_leave_all_that_the_server_ended(
        self, store: Any, command: Any, outside: Any
    ) -> None:
        store.send(command(Pack()))
        with store.engine.connect() as one, store.engine.connect() as two:
            ended = [_backend(one), _backend(two)]
        outside.execute("SELECT pg_terminate_backend(pid) FROM unnest(%s) AS pid", (ended,))
        consumer = _Recorded(store.consumer(depot(nothing)))
        assert drain(store.database, consumer, silent) == 1
        assert consumer.limits == [64, 1, 1]  # lost, done, and a look for more

    def test_a_handlers_own_connection_that_is_lost_is_not_the_pools(self, store: Any) -> None:
        consumer = _Raising(psycopg.OperationalError("the partner's database is away"))
        with store.engine.connect() as connection:
            pooled = _backend(connection)
        with pytest.raises(psycopg.OperationalError):
            drain(store.database, consumer, silent)
        with store.engine.connect() as connection:
            assert _backend(connection) == pooled

    def test_nobody_is_told_of_a_failure_when_the_connection_was_lost(
        self, store: Any, command: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls: list[int] = []

        def handle(message: Pack, work: Work) -> None:
            calls.append(message.n)
            if len(calls) == 1:
                store.rows(
                    "SELECT pg_terminate_backend(%s)",
                    work.connection.connection.driver_connection.info.backend_pid,
                )

        store.send(command(Pack()))
        with caplog.at_level("WARNING", "internals.hop.batch"):
            store.drain(depot(handle))
        assert calls == [0, 0]
        assert caplog.messages == []

    def test_a_bug_in_the_hop_is_not_run_again(self, store: Any) -> None:
        consumer = _Raising(ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            drain(store.database, consumer, silent)
        assert consumer.calls == 1


def _backend(connection: Connection) -> int:
    pid: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return pid


class _Recorded:
    """A consumer that remembers the limits it was called with."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self.name = consumer.name
        self.limits: list[int] = []

    def handle(self, unit: Any, limit: int, *folders: Any) -> Handled:
        self.limits.append(limit)
        handled: Handled = self._consumer.handle(unit, limit, *folders)
        return handled


class _Raising:
    name = "depot"

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.calls = 0

    def handle(self, unit: Any, limit: int, *_: Any) -> Handled:
        self.calls += 1
        raise self._error


class TestDrain:
    def test_it_goes_on_until_nothing_is_due(self, store: Any, command: Any, note: Any) -> None:
        def handle(message: Pack, work: Work) -> None:
            note(work, message.n)
            if message.n:
                work.send(Pack(n=message.n - 1))

        store.send(command(Pack(n=5)))
        assert store.drain(depot(handle, emits=(Pack,)), limit=1) == 6
        assert store.effects() == [0, 1, 2, 3, 4, 5]

    def test_it_rings_after_each_commit_and_not_before(self, store: Any, command: Any) -> None:
        seen: list[tuple[frozenset[str], int]] = []

        def ring(consumers: frozenset[str]) -> None:
            seen.append((consumers, len(store.deliveries("saga.trip"))))

        store.send(*(command(Pack(), saga="trip", awaits=(Done.kind,)) for _ in range(3)))
        consumer = store.consumer(depot(nothing))
        drain(store.database, consumer, ring, limit=2)
        trip = frozenset({"saga.trip"})
        assert seen == [(trip, 2), (trip, 3)]

    def test_nobody_is_rung_for_nothing(self, store: Any, command: Any, note: Any) -> None:
        store.send(command(Pack(n=1)))
        rung: list[frozenset[str]] = []
        consumer = store.consumer(depot(lambda message, work: note(work, message.n)))
        assert drain(store.database, consumer, rung.append) == 1
        assert rung == []

    def test_at_the_end_of_its_turn_it_rings_its_own_doorbell(
        self, store: Any, command: Any, note: Any
    ) -> None:
        for n in range(5):
            store.send(command(Pack(n=n)))
        rung: list[frozenset[str]] = []
        consumer = store.consumer(depot(lambda message, work: note(work, message.n)))
        assert drain(store.database, consumer, rung.append, limit=2, turn=-1) == 2
        assert rung == [{"depot"}]
        assert store.effects() == [0, 1]


class Heavy(Command, kind="depot.pack"):
    """As a newer release has it."""

    n: int
    by: str | None = None


class Weighed(Command, kind="depot.pack"):
    """As another release has it, which cannot do without a field."""

    n: int
    weight: int


class TestUnread:
    def test_what_a_newer_release_added_is_ignored_and_kept(
        self, store: Any, command: Any, note: Any
    ) -> None:
        sent = command(Heavy(n=1, by="Ada"))
        store.send(sent)
        store.drain(depot(lambda message, work: note(work, message.n)))
        assert store.effects() == [1]
        assert store.sent("depot.pack")[0]["payload"] == {"n": 1, "by": "Ada"}

    @pytest.mark.parametrize("external", [False, True])
    @pytest.mark.parametrize("rings", [0, 5])
    def test_what_cannot_be_read_is_left_for_a_worker_that_can(
        self, store: Any, command: Any, note: Any, external: bool, rings: int, caplog: Any
    ) -> None:
        unread = [command(Pack(n=n), retry=Retry(attempts=1)) for n in (1, 2)]
        store.send(*unread)
        store.rows("UPDATE inbox SET rings = %s RETURNING rings", rings)

        def handle(message: Any, work: Work) -> None:
            work.begin()
            note(work, message.n)

        here = Context("depot")
        here.handles(Weighed, external=external)(handle)
        consumer = store.consumer(here)
        with caplog.at_level("WARNING"):
            for _ in range(3):
                drain(store.database, consumer, silent)
                for each in unread:
                    row = store.delivery(each)
                    assert (row["state"], row["attempts"]) == ("pending", 0)
                    assert (row["started_at"], row["lease"]) == (None, None)
                    why = "cannot be read here: depot.pack: field weight: Field required"
                    assert row["last_error"] == why
                store.make_due()
        (told,) = caplog.records  # once, however many there are and however often they are met
        assert told.getMessage().endswith("is left for another worker: " + why)

        there = Context("depot")
        there.handles(Pack, external=external)(handle)
        store.drain(there)
        assert sorted(store.effects()) == [1, 2]

    def test_what_a_handler_cannot_read_by_itself_is_its_own_failure(
        self, store: Any, command: Any
    ) -> None:
        sent = command(Pack(n=1), retry=Retry(attempts=1))
        store.send(sent)
        store.drain(depot(lambda *_: Weighed.from_json("{}") and None))
        row = store.delivery(sent)
        assert row["state"] == "parked"
        assert row["last_error"].startswith("UnreadableMessage: depot.pack: field n")

    def test_a_body_that_did_not_run_is_a_failure_in_words(self, store: Any, command: Any) -> None:
        async def body() -> None: ...

        sent = command(Pack(n=1), retry=Retry(attempts=1))
        store.send(sent)
        store.drain(depot(lambda *_: body()))
        row = store.delivery(sent)
        assert row["state"] == "parked"
        assert "returned an awaitable, coroutine, whose body has not run" in row["last_error"]


class TestUnknown:
    def test_a_kind_that_this_worker_does_not_know_is_left_where_it_is(
        self, store: Any, command: Any, note: Any
    ) -> None:
        unknown, known = command(Label(n=7), retry=Retry(attempts=1)), command(Pack(n=1))
        store.send(unknown, known)
        old = depot(lambda message, work: note(work, message.n))
        for _ in range(3):  # however often it is looked at
            before = store.clock()
            store.drain(old)
            row = store.delivery(unknown)
            assert (row["state"], row["attempts"]) == ("pending", 0)
            assert row["last_error"] == "no handler for depot.label in this worker"
            assert row["ring_at"] >= row["due_at"]
            assert (row["due_at"] - before).total_seconds() >= SHORTEST_DELAY
            store.make_due()
        assert store.effects() == [1]

        new = Context("depot")
        new.handles(Label)(lambda message, work: note(work, message.n))
        store.drain(new)
        assert store.delivery(unknown)["state"] == "done"
        assert store.effects() == [1, 7]


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
        monkeypatch.setattr(internals.hop.batch.random, "random", lambda: 0.5)
        context = depot(_fail, retry=Retry(attempts=4))
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
        context = depot(_fail, retry=Retry(attempts=9))
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
        assert store.hop(depot(_fail, retry=Retry(attempts=1))).woken == frozenset()
        assert store.delivery(message)["state"] == "parked"
        assert len(store.rows("SELECT * FROM outbox")) == 1

    @pytest.mark.parametrize(("handler", "step", "state"), [(1, 2, "pending"), (2, 1, "parked")])
    def test_the_step_s_policy_goes_before_the_handler_s(
        self, store: Any, command: Any, handler: int, step: int, state: str
    ) -> None:
        message = command(Pack(), retry=Retry(attempts=step))
        store.send(message)
        store.hop(depot(_fail, retry=Retry(attempts=handler)))
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


def _fail(message: Pack, work: Work) -> None:
    raise ValueError("no such shelf")


def test_random_failures_never_lose_or_repeat_an_effect(
    store: Any, command: Any, note: Any
) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")  # noqa: T201 - to run it again
    dice = random.Random(seed)
    lock = threading.Lock()

    def handle(message: Pack, work: Work) -> None:
        note(work, message.n)
        work.publish(Packed(n=message.n))
        with lock:
            fate = dice.random()
        if fate < 0.2:
            raise ValueError("bad luck")
        if fate < 0.3:
            raise psycopg.errors.SerializationFailure("bad luck")

    context = depot(handle, emits=(Packed,), retry=Retry(attempts=10_000))
    store.send(*(command(Pack(n=n)) for n in range(60)))
    for _ in range(200):
        with ThreadPoolExecutor(3) as pool:
            for run in [pool.submit(store.drain, context, limit=8) for _ in range(3)]:
                if isinstance(error := run.exception(60), Exception):
                    assert isinstance(error, psycopg.Error), error
        if not store.rows("SELECT 1 AS one FROM inbox WHERE state = 'pending'"):
            break
        store.make_due()
    assert store.effects() == list(range(60))
    assert sorted(row["payload"]["n"] for row in store.sent(Packed.kind)) == list(range(60))


def test_a_hop_of_nothing_writes_nothing(store: Any, engine: Engine) -> None:
    assert store.hop(depot(_fail)) == Handled()
    assert store.rows("SELECT * FROM outbox") == []
