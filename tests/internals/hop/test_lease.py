"""Leases on real Postgres: what acts outside the database, and what kills its workers."""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from dramatiq.middleware import Interrupt

from internals import Context, Work
from internals.hop import hop
from internals.hop.context_consumer import SUSPECT_STARTS
from saga import Command, Done, Faulted, NoTransaction, Refused, Rejected, Retry


class Dial(Command, kind="phone.dial"):
    n: int = 0


class Gone(Interrupt):
    """The worker is gone: no `except Exception` sees it."""


def phone(handle: Callable[[Dial, Work], None], **declared: Any) -> Context:
    """A context whose one handler calls out."""
    context = Context("phone")
    context.handles(Dial, **{"external": True, **declared})(handle)
    return context


def idle(_: Dial, work: Work) -> None:
    """A handler that has nothing to do."""


class TestExternal:
    def test_effects_answer_and_settlement_are_one_transaction(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Dial, work: Work) -> None:
            work.begin()
            note(work, message.n)

        message = command(Dial(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        assert store.drain(phone(handle)) == 1
        row = store.delivery(message)
        assert (row["state"], row["lease"]) == ("done", None)
        assert store.effects() == [1]
        assert len(store.sent(Done.kind)) == 1

    def test_while_it_calls_out_no_transaction_is_open_and_nobody_else_takes_it(
        self, store: Any, command: Any
    ) -> None:
        seen: list[tuple[bool, int, int]] = []

        def handle(message: Dial, work: Work) -> None:
            row = store.delivery(sent)
            seen.append((row["lease"] is not None, row["attempts"], store.hop(context).claimed))
            with pytest.raises(NoTransaction):
                _ = work.connection

        context, sent = phone(handle), command(Dial())
        store.send(sent)
        store.drain(context)
        assert seen == [(True, 1, 0)]  # all of it committed before the call

    def test_one_whose_worker_is_gone_is_run_again_with_the_same_key_when_its_lease_ends(
        self, store: Any, command: Any, note: Any
    ) -> None:
        keys: list[str] = []

        def handle(message: Dial, work: Work) -> None:
            keys.append(work.idempotency_key)
            work.begin()
            note(work, message.n)
            if len(keys) == 1:
                raise Gone

        context = phone(handle, lease=timedelta(hours=1))
        message = command(Dial(n=1))
        store.send(message)
        before = store.clock()
        with pytest.raises(Gone):
            store.drain(context)
        row = store.delivery(message)
        assert (row["state"], row["attempts"], row["last_error"]) == ("pending", 1, None)
        assert row["due_at"] >= before + timedelta(hours=1)
        assert row["ring_at"] >= row["due_at"]
        assert store.drain(context) == 0

        store.make_due()
        store.drain(context)
        assert store.delivery(message)["state"] == "done"
        assert keys == [f"phone:{message.id}"] * 2
        assert store.effects() == [1]

    def test_whoever_comes_back_after_its_lease_went_to_another_writes_nothing(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def slow(message: Dial, work: Work) -> None:
            store.make_due()
            store.drain(phone(quick))
            work.begin()
            note(work, 100)

        def quick(message: Dial, work: Work) -> None:
            work.begin()
            note(work, message.n)

        message = command(Dial(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        store.drain(phone(slow))
        assert store.effects() == [1]
        assert len(store.sent(Done.kind)) == 1

    def test_while_the_other_is_still_at_it_the_first_result_counts(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def slow(message: Dial, work: Work) -> None:
            if not second:
                store.make_due()
                other = store.consumer(phone(slow))
                second.append(hop(store.database, other).after_commit)  # claimed, and not run yet
            work.begin()
            note(work, message.n)

        second: list[Any] = []
        message = command(Dial(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        store.drain(phone(slow))
        row = store.delivery(message)
        assert (row["state"], row["lease"]) == ("done", None)
        assert second[0](store.database) == frozenset()
        assert store.effects() == [1]
        assert len(store.sent(Done.kind)) == 1

    def test_a_no_is_a_result_too(self, store: Any, command: Any) -> None:
        def declined(message: Dial, work: Work) -> None:
            store.make_due()
            assert store.hop(phone(idle)).after_commit is not None
            raise Rejected("no answer")

        message = command(Dial(), saga="trip", awaits=(Done.kind,))
        store.send(message)
        store.drain(phone(declined))
        assert store.delivery(message)["state"] == "done"
        assert len(store.sent(Refused.kind)) == 1

    def test_a_failure_of_whoever_lost_its_lease_is_nothing(self, store: Any, command: Any) -> None:
        def failing(message: Dial, work: Work) -> None:
            store.make_due()
            assert store.hop(phone(idle)).after_commit is not None
            raise TimeoutError

        message = command(Dial())
        store.send(message)
        store.drain(phone(failing, retry=Retry(attempts=1)))
        row = store.delivery(message)
        assert (row["state"], row["attempts"]) == ("pending", 2)
        assert row["lease"] is not None

    def test_while_it_is_run_again_the_delivery_says_why(self, store: Any, command: Any) -> None:
        message, context = command(Dial()), phone(idle)
        store.send(message)
        store.hop(context)
        assert store.delivery(message)["last_error"] is None
        store.make_due()
        store.hop(context)
        error = store.delivery(message)["last_error"]
        assert error == "its worker died, or it took longer than its lease"

    def test_leases_that_begin_together_do_not_end_together(self, store: Any, command: Any) -> None:
        sent = [command(Dial(n=n)) for n in range(20)]
        store.send(*sent)
        before = store.clock()
        context = phone(idle, lease=timedelta(hours=1000))
        for _ in sent:
            store.hop(context)  # claimed, and not run
        after = store.clock()
        ends = sorted(row["due_at"] for row in store.deliveries("phone"))
        assert before + timedelta(hours=1000) <= ends[0]
        assert ends[-1] <= after + timedelta(hours=1500)
        assert ends[-1] - ends[0] > timedelta(hours=1)
        assert all(row["ring_at"] >= row["due_at"] for row in store.deliveries("phone"))

    @pytest.mark.parametrize("attempts", [1, 3])
    def test_one_that_is_always_tried_again_is_run_however_often_it_failed(
        self, store: Any, command: Any, attempts: int
    ) -> None:
        runs: list[int] = []

        def handle(message: Dial, work: Work) -> None:
            runs.append(store.delivery(sent)["attempts"])
            raise TimeoutError

        sent = command(Dial(), saga="trip", awaits=(Done.kind,))
        store.send(sent)
        for _ in range(9):
            store.make_due()
            store.drain(phone(handle, retry=Retry(attempts=attempts, always=(TimeoutError,))))
        assert store.delivery(sent)["state"] == "pending"
        assert runs == [*range(1, attempts), *[attempts] * (10 - attempts)]
        assert store.sent(Faulted.kind) == []


class TestSuspect:
    def test_what_kills_its_workers_is_parked_after_so_many_starts(
        self, store: Any, command: Any, note: Any
    ) -> None:
        starts: list[int] = []

        def handle(message: Dial, work: Work) -> None:
            starts.append(message.n)
            note(work, message.n)
            raise Gone

        context = phone(handle, external=False, retry=Retry(attempts=3))
        message = command(Dial(n=1), saga="trip", awaits=(Done.kind,))
        store.send(message)
        store.suspect(message)
        for _ in range(SUSPECT_STARTS + 2):
            with suppress(Gone):
                store.drain(context)
            store.make_due()
        row = store.delivery(message)
        assert (row["state"], row["attempts"]) == ("parked", SUSPECT_STARTS)
        assert starts == [1] * SUSPECT_STARTS
        assert "its worker died" in row["last_error"]
        assert store.effects() == []
        (told,) = store.sent(Faulted.kind)
        assert told["recipient"] == "saga.trip"

    def test_one_that_acts_outside_is_started_no_more_often_than_its_attempts(
        self, store: Any, command: Any
    ) -> None:
        starts: list[int] = []

        def handle(message: Dial, work: Work) -> None:
            starts.append(message.n)
            raise Gone

        message = command(Dial(n=1))
        store.send(message)
        store.suspect(message)
        for _ in range(4):
            with suppress(Gone):
                store.drain(phone(handle, retry=Retry(attempts=2)))
            store.make_due()
        row = store.delivery(message)
        assert (row["state"], row["attempts"], starts) == ("parked", 2, [1, 1])

    def test_one_with_more_attempts_than_that_is_started_as_often(
        self, store: Any, command: Any
    ) -> None:
        context = phone(idle, external=False, retry=Retry(attempts=40))
        message = command(Dial())
        store.send(message)
        store.suspect(message)
        store.rows("UPDATE inbox SET attempts = 39 RETURNING 1 AS one")
        assert store.hop(context).after_commit is not None
        store.make_due()
        assert store.hop(context).after_commit is None
        assert store.delivery(message)["state"] == "parked"

    def test_it_takes_nothing_else_of_its_batch_with_it(
        self, store: Any, command: Any, note: Any
    ) -> None:
        def handle(message: Dial, work: Work) -> None:
            note(work, message.n)
            if message.n == 1:
                raise Gone

        sent = [command(Dial(n=n)) for n in range(3)]
        store.send(*sent)
        store.suspect(sent[1])
        with pytest.raises(Gone):
            store.drain(phone(handle, external=False))
        assert store.effects() == [0, 2]
        states = [row["state"] for row in store.deliveries("phone")]
        assert states == ["done", "pending", "done"]
