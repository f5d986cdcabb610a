"""Handlers that do not end: they are ended, nothing of theirs stays, and nobody waits for them."""

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from internals import Work
from internals.hop import hop
from internals.hop.pace import FIRST_BATCH
from internals.hop.time_limits import Watch
from saga import DefinitionError, Rejected, Retry
from tests.internals.hop.hanging_handlers import (
    BATCH_LIMIT,
    GRACE,
    LIMIT,
    PATIENCE,
    WAYS,
    Dig,
    hang_in_c,
    mine,
    sleep_on,
    swallow_and_return,
)


class TestLimit:
    @pytest.mark.parametrize("way", WAYS)
    def test_a_run_ends_counted_and_named_and_leaves_nothing(
        self,
        store: Any,
        command: Any,
        note: Any,
        run: Any,
        released: Any,
        eventually: Any,
        way: str,
    ) -> None:
        def handle(message: Dig, work: Work) -> None:
            note(work, message.n)
            WAYS[way](work, released)

        sent = command(Dig(n=1), saga="trip")
        store.send(sent)
        ended = run(mine(handle, retry=Retry(attempts=1)))
        eventually(lambda: store.delivery(sent)["state"] == "parked", PATIENCE)
        row = store.delivery(sent)
        assert row["last_error"] == f"TookTooLong: took longer than its limit of {LIMIT:g} s"
        assert row["attempts"] == 1
        assert store.effects() == []
        (fault,) = store.sent("saga.faulted")
        assert "took longer than its limit" in fault["payload"]["error"]
        released.set()
        ended.result(PATIENCE)  # its connections are given back

    @pytest.mark.parametrize("way", WAYS)
    def test_when_it_wakes_it_can_neither_write_nor_commit(
        self,
        store: Any,
        command: Any,
        note: Any,
        run: Any,
        released: Any,
        eventually: Any,
        way: str,
    ) -> None:
        runs: list[int] = []

        def handle(message: Dig, work: Work) -> None:
            runs.append(message.n)
            if len(runs) == 1:
                with suppress(BaseException):
                    WAYS[way](work, released)
            note(work, message.n)

        sent = command(Dig(n=7))
        store.send(sent)
        first = run(mine(handle))
        eventually(lambda: store.delivery(sent)["attempts"] == 1, PATIENCE)
        second = run(mine(handle))
        eventually(lambda: store.delivery(sent)["state"] == "done", PATIENCE)
        released.set()
        first.result(PATIENCE)
        second.result(PATIENCE)
        assert (store.effects(), runs) == ([7], [7, 7])
        assert store.delivery(sent)["attempts"] == 1

    def test_one_that_swallows_its_end_has_failed(
        self, store: Any, command: Any, watch: Watch, note: Any, released: Any
    ) -> None:
        def handle(message: Dig, work: Work) -> None:
            note(work, message.n)
            swallow_and_return(work, released)

        store.send(sent := command(Dig(n=1)))
        store.drain_with(mine(handle, retry=Retry(attempts=1)), watch=watch)
        assert (store.delivery(sent)["state"], store.effects()) == ("parked", [])

    def test_the_policy_is_asked_and_later_runs_are_in_no_batch(
        self, store: Any, command: Any, watch: Watch, note: Any, released: Any
    ) -> None:
        batches: list[set[int]] = []

        def handle(message: Dig, work: Work) -> None:
            if message.n == 1:
                batches.append(set(store.effects()))
                sleep_on(work, released)
            note(work, message.n)

        store.send(bad := command(Dig(n=1)), *(command(Dig(n=n)) for n in range(2, 6)))
        context = mine(handle, retry=Retry(attempts=3, backoff=timedelta(0)))
        for _ in range(6):
            store.drain_with(context, watch=watch)
            store.make_due()
        row = store.delivery(bad)
        assert (row["state"], row["attempts"]) == ("parked", 3)
        assert "took longer" in row["last_error"]
        assert store.effects() == [2, 3, 4, 5]
        # The first run held up its batch, and was none of the three.
        assert len(batches) == 4
        assert len(batches[-1]) == 4

    def test_a_handler_that_ends_in_time_is_left_alone(
        self, store: Any, command: Any, watch: Watch, note: Any
    ) -> None:
        def handle(message: Dig, work: Work) -> None:
            note(work, message.n)
            if message.n == 3:
                raise Rejected("no coal")

        store.send(*(command(Dig(n=n), saga="trip") for n in range(20)))
        assert store.drain_with(mine(handle), watch=watch) == 20
        assert store.effects() == [n for n in range(20) if n != 3]
        assert (watch.running, watch.hung) == (0, 0)

    def test_a_handler_may_declare_its_own(
        self, store: Any, command: Any, watch: Watch, released: Any
    ) -> None:
        def handle(message: Dig, work: Work) -> None:
            sleep_on(work, released)

        store.send(sent := command(Dig()))
        limit = timedelta(milliseconds=150)
        store.drain_with(mine(handle, retry=Retry(attempts=1), limit=limit), watch=watch)
        assert store.delivery(sent)["last_error"].endswith("its limit of 0.15 s")

    @pytest.mark.parametrize("limit", [timedelta(0), timedelta(seconds=-1), 5, "1 s"])
    def test_a_limit_that_cannot_be_is_refused(self, limit: Any) -> None:
        with pytest.raises(
            DefinitionError, match="limit of 'refused' must be a positive timedelta"
        ):
            mine(refused, limit=limit)

    def test_where_it_hangs_is_told_without_what_it_handles(
        self,
        store: Any,
        command: Any,
        run: Any,
        released: Any,
        eventually: Any,
        watch: Watch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        store.send(sent := command(Dig(n=424242)))
        hung: list[int] = []
        watch.on_hung = hung.append
        run(mine(lambda _, work: hang_in_c(work, released)))
        eventually(lambda: hung, PATIENCE)
        assert (hung, watch.hung) == ([1], 1)
        assert f"mine: mine.dig {sent.id} does not end" in caplog.text
        assert "hang_in_c" in caplog.text
        assert "424242" not in caplog.text


def refused(_: Dig, work: Work) -> None: ...


class TestBatch:
    @pytest.mark.parametrize("way", WAYS)
    def test_the_others_of_its_batch_do_not_wait_for_its_limit(
        self,
        store: Any,
        command: Any,
        run: Any,
        note: Any,
        released: Any,
        eventually: Any,
        way: str,
    ) -> None:
        watch = Watch(limit=3600, batch_limit=BATCH_LIMIT, grace=GRACE)

        def handle(message: Dig, work: Work) -> None:
            if message.n == 20:
                WAYS[way](work, released)
            note(work, message.n)

        def answer_doorbells() -> None:
            while not released.is_set():
                store.drain_with(mine(handle), watch=watch)

        store.send(*(command(Dig(n=n)) for n in range(40)))
        others = [n for n in range(40) if n != 20]
        with ThreadPoolExecutor(2) as pool:
            for _ in range(2):
                pool.submit(answer_doorbells)
            try:
                eventually(lambda: set(store.effects()) >= set(others), PATIENCE, "the others")
            finally:
                released.set()
        # Nor were they counted, or done twice.
        assert [n for n in store.effects() if n != 20] == others
        counted = {row["payload"]["n"] for row in store.deliveries("mine") if row["attempts"]}
        assert counted <= {20}

    def test_a_slow_handler_within_its_limit_is_run_again_alone_and_not_counted(
        self, store: Any, command: Any, note: Any
    ) -> None:
        watch = Watch(limit=3600, batch_limit=BATCH_LIMIT, grace=GRACE)
        runs: list[int] = []

        def handle(message: Dig, work: Work) -> None:
            runs.append(message.n)
            if message.n == 2:
                time.sleep(3 * BATCH_LIMIT)
            note(work, message.n)

        store.send(*(command(Dig(n=n)) for n in range(6)))
        assert store.drain_with(mine(handle), watch=watch) >= 6
        assert store.effects() == list(range(6))
        assert runs.count(2) == 2
        assert {row["state"] for row in store.deliveries("mine")} == {"done"}

    def test_nobody_else_runs_it_before_what_becomes_of_it_is_written(
        self,
        store: Any,
        command: Any,
        run: Any,
        note: Any,
        released: Any,
        eventually: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Its lock may go to another thread of the process before it goes to who writes that."""
        watch = Watch(limit=3600, batch_limit=BATCH_LIMIT, grace=GRACE)
        freed, go_on = threading.Event(), threading.Event()
        settle = Watch._settle

        def late(self: Watch, late: Any) -> None:
            freed.set()
            assert go_on.wait(PATIENCE)
            settle(self, late)

        monkeypatch.setattr(Watch, "_settle", late)
        runs: list[int] = []

        def handle(message: Dig, work: Work) -> None:
            runs.append(message.n)
            if message.n == 2 and len(runs) < 4:
                hang_in_c(work, released)
            note(work, message.n)

        store.send(*(command(Dig(n=n)) for n in range(4)))
        with ThreadPoolExecutor(1) as pool:
            hanging = pool.submit(store.drain_with, mine(handle), watch=watch)
            try:
                assert freed.wait(PATIENCE)
                # Whoever comes first once its session is ended.
                eventually(lambda: store.hop_with(mine(handle), watch=watch).claimed, PATIENCE)
                assert (store.effects(), runs.count(2)) == ([0, 1, 3], 1)
            finally:
                go_on.set()
                released.set()
            hanging.result(PATIENCE)
        store.drain_with(mine(handle), watch=watch)
        assert store.effects() == [0, 1, 2, 3]

    def test_a_process_begins_with_few(self, store: Any, command: Any, note: Any) -> None:
        store.send(*(command(Dig(n=n)) for n in range(40)))
        context = mine(lambda message, work: note(work, message.n))
        consumer = store.consumer(context, first=FIRST_BATCH)
        taken = [hop(store.database, consumer).claimed for _ in range(4)]
        assert taken == [4, 8, 16, 12]
