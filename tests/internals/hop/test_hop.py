"""The hop on real Postgres: one transaction, whatever happens inside it."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import psycopg.errors
import pytest
from sqlalchemy import Engine, text

import internals.database.connections
import internals.hop.batch
from internals import Work
from internals.database.commit_points import Boundary
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop.consumer import Handled
from saga import Done, Retry
from tests.internals.hop.depot import Pack, Packed, depot, fail, sent_by


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
            assert sent_by(store, message.id) == ([Packed.kind, Done.kind] if done else [])
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
        assert sent_by(store, message.id) == [Done.kind] * len(effects)
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
        assert sent_by(store, message.id) == [Done.kind]

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
    assert store.hop(depot(fail)) == Handled()
    assert store.rows("SELECT * FROM outbox") == []
