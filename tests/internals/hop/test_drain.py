"""Answering a doorbell: again while more is due, and once more after a conflict."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import psycopg.errors
import pytest
from sqlalchemy import Connection, text

from internals import Context, Work
from internals.database.lock_waits import GaveWay
from internals.hop import drain
from internals.hop.consumer import Handled
from saga import Command, Done, Refused, Rejected, Retry
from tests.internals.hop.depot import (
    Handle,
    Label,
    Pack,
    Packed,
    depot,
    nothing,
    order_label,
    sent_by,
    silent,
    tell_packed,
)


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
        assert sent_by(store, sent[1].id) == [Refused.kind]
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
        assert sent_by(store, message.id) == []

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
        down.handles(Store)(fill([2, 1], iter([True])))  # type: ignore[arg-type]
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

    def handle(self, hop: Any, limit: int) -> Handled:
        self.limits.append(limit)
        handled: Handled = self._consumer.handle(hop, limit)
        return handled


class _Raising:
    name = "depot"

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.calls = 0

    def handle(self, hop: Any, limit: int) -> Handled:
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
        assert drain(store.database, consumer, rung.append, limit=2, time_slice=-1) == 2
        assert rung == [{"depot"}]
        assert store.effects() == [0, 1]
