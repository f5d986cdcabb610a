"""Handlers that do not end: they are ended, nothing of theirs stays, and nobody waits for them."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from internals import Context, Work
from internals.database.transaction_limits import Bounds
from internals.hop import hop
from internals.hop.pace import FIRST_BATCH
from internals.hop.time_limits import LIMIT as LONGEST
from internals.hop.time_limits import Watch
from saga import Command, DefinitionError, Rejected, Retry


class Dig(Command, kind="mine.dig"):
    n: int = 0


Handle = Callable[[Dig, Work], None]

#: Seconds; what is waited for ends after so many at the latest, however slow the machine is.
LIMIT, BATCH_LIMIT, GRACE, PATIENCE = 0.6, 0.3, 0.3, 30.0


def mine(handle: Handle, **declared: Any) -> Context:
    context = Context("mine")
    context.handles(Dig, **{"retry": Retry(backoff=timedelta(0)), **declared})(handle)
    return context


class Hanging:
    """What handlers hang on, until the test lets them go."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._locks: list[threading.Lock] = []

    def is_set(self) -> bool:
        return self._over.is_set()

    def hang(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self._locks.append(lock)
        if not self._over.is_set():
            lock.acquire()

    def set(self) -> None:
        self._over.set()
        while self._locks:
            self._locks.pop().release()


@pytest.fixture
def released() -> Iterator[Hanging]:
    hanging = Hanging()
    yield hanging
    hanging.set()


@pytest.fixture
def watch() -> Watch:
    return Watch(limit=LIMIT, batch_limit=BATCH_LIMIT, grace=GRACE)


@pytest.fixture
def run(store: Any, watch: Watch, released: Hanging) -> Iterator[Callable[[Context], Any]]:
    """Let a thread of its own handle what is due; it comes back when it is let go."""
    pool = ThreadPoolExecutor(8)

    def drain(context: Context) -> Any:
        return pool.submit(store.drain_with, context, watch=watch)

    yield drain
    released.set()
    pool.shutdown(wait=True)


def sleep_on(_: Work, released: Hanging) -> None:
    while not released.is_set():
        time.sleep(0.01)


def spin(_: Work, released: Hanging) -> None:
    while not released.is_set():
        pass


def hang_in_c(_: Work, released: Hanging) -> None:
    released.hang()


def query_slowly(work: Work, _: Hanging) -> None:
    work.execute("SELECT pg_sleep(5)")


def swallow(work: Work, released: Hanging) -> None:
    while not released.is_set():
        with suppress(BaseException):
            sleep_on(work, released)


def swallow_and_return(work: Work, released: Hanging) -> None:
    with suppress(BaseException):
        sleep_on(work, released)


WAYS = {
    "a_loop_that_sleeps": sleep_on,
    "a_loop_that_spins": spin,
    "a_call_of_c": hang_in_c,
    "a_slow_statement": query_slowly,
    "one_who_swallows_what_is_raised": swallow,
    "one_who_swallows_it_and_returns": swallow_and_return,
}


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


@pytest.fixture
def seam(store: Any, outside: Any) -> Iterator[Any]:
    """A session that has a row of a table of the handlers' locked, until it is committed."""
    outside.execute("CREATE TABLE seam (id int PRIMARY KEY, dug int NOT NULL DEFAULT 0)")
    outside.execute("INSERT INTO seam VALUES (1)")
    with store.engine.connect() as holder:
        holder.execute(text("SELECT 1 FROM seam FOR UPDATE"))
        yield holder


class TestLockWaits:
    """Whoever waits for a row that another session has locked has done nothing wrong."""

    @pytest.mark.parametrize("way", ["hop", "suspect", "external"])
    def test_one_that_is_ended_in_it_gives_way_uncounted(
        self,
        store: Any,
        command: Any,
        run: Any,
        seam: Any,
        eventually: Any,
        way: str,
    ) -> None:
        def dig(_: Dig, work: Work) -> None:
            if way == "external":
                work.begin()
            work.execute("UPDATE seam SET dug = dug + 1")

        declared: dict[str, Any] = {"retry": Retry(attempts=1)}
        if way == "external":
            declared |= {"external": True, "limit": timedelta(seconds=LIMIT)}
        store.send(sent := command(Dig(n=1), saga="trip"))
        if way == "suspect":
            store.suspect(sent)
        ended = run(mine(dig, **declared))
        eventually(lambda: store.delivery(sent)["yields"] == 1, PATIENCE)
        row = store.delivery(sent)
        assert (row["state"], row["attempts"], row["lease"]) == ("pending", 0, None)
        assert row["last_error"].startswith("StillLocked: it waited for a lock")
        seam.commit()
        ended.result(PATIENCE)
        store.make_due()
        run(mine(dig, **declared)).result(PATIENCE)
        assert store.delivery(sent)["state"] == "done"
        assert store.rows("SELECT dug FROM seam") == [{"dug": 1}]

    def test_one_whose_statement_is_slow_by_itself_has_failed(
        self, store: Any, command: Any, run: Any
    ) -> None:
        store.send(sent := command(Dig(n=1)))
        slow = mine(lambda _, work: work.execute("SELECT pg_sleep(60)"), retry=Retry(attempts=1))
        run(slow).result(PATIENCE)
        assert store.delivery(sent)["last_error"].startswith("TookTooLong")

    def test_by_default_the_wait_ends_before_the_handler_is_ended(self) -> None:
        assert Bounds().wait < LONGEST


def refused(_: Dig, work: Work) -> None: ...


class TestExternal:
    @pytest.mark.parametrize("way", ["a_loop_that_sleeps", "a_call_of_c"])
    @pytest.mark.parametrize("begun", [False, True])
    def test_it_has_a_limit_too(
        self,
        store: Any,
        command: Any,
        run: Any,
        note: Any,
        released: Any,
        eventually: Any,
        watch: Watch,
        way: str,
        begun: bool,
    ) -> None:
        hung: list[int] = []
        watch.on_hung = hung.append

        def handle(message: Dig, work: Work) -> None:
            if begun:
                work.begin()
                note(work, message.n)
            WAYS[way](work, released)

        store.send(sent := command(Dig(n=1), saga="trip"))
        limit = timedelta(seconds=LIMIT)
        ended = run(mine(handle, external=True, limit=limit, retry=Retry(attempts=1)))
        eventually(lambda: store.delivery(sent)["state"] == "parked", PATIENCE)
        if way == "a_call_of_c":
            eventually(lambda: hung, PATIENCE)  # who settled it has given its connection back
        released.set()
        ended.result(PATIENCE)
        row = store.delivery(sent)
        assert row["last_error"] == f"TookTooLong: took longer than its limit of {LIMIT:g} s"
        assert (row["attempts"], row["lease"], store.effects()) == (1, None, [])

    def test_without_one_it_has_ten_times_its_lease(
        self, store: Any, command: Any, watch: Watch, released: Any
    ) -> None:
        store.send(sent := command(Dig()))
        lease = timedelta(milliseconds=20)
        context = mine(
            lambda _, work: sleep_on(work, released),
            external=True,
            lease=lease,
            retry=Retry(attempts=1),
        )
        store.drain_with(context, watch=watch)
        assert store.delivery(sent)["last_error"].endswith("its limit of 0.2 s")


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


class TestStoodStill:
    """A process that was frozen says nothing of its handlers' time."""

    @pytest.mark.parametrize("looked", [True, False])
    def test_what_a_frozen_process_did_not_do_is_not_its_handlers(
        self, store: Any, command: Any, monkeypatch: pytest.MonkeyPatch, looked: bool
    ) -> None:
        """Postgres ends the transaction of a process that stands still; it wakes in a statement."""
        watch = Watch(limit=60.0, batch_limit=30.0)

        def handle(_: Dig, work: Work) -> None:
            work.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
            frozen = time.monotonic() + 0.3
            while time.monotonic() < frozen:
                pass
            work.execute("SELECT 1")

        monkeypatch.setattr(Watch, "stood_still", lambda *_: looked)
        sent = command(Dig())
        store.send(sent)
        with suppress(psycopg.Error):
            hop(store.database, store.consumer(mine(handle), watch=watch))
        assert store.delivery(sent)["attempts"] == (0 if looked else 1)
