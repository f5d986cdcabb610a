"""Time limits where a handler waits: for a lock, or for the outside; and where all stood still."""

import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from internals import Work
from internals.database.transaction_limits import Bounds
from internals.hop import hop, time_limits
from internals.hop.handler_run import Run
from internals.hop.time_limits import LIMIT as LONGEST
from internals.hop.time_limits import Watch
from saga import Retry
from tests.internals.hop.hanging_handlers import LIMIT, PATIENCE, WAYS, Dig, mine, sleep_on


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

    def test_what_one_waited_before_it_got_the_lock_is_not_its_own_time(
        self, store: Any, command: Any, run: Any, seam: Any, eventually: Any
    ) -> None:
        watch = Watch(limit=6.0)

        def runs() -> list[Run]:
            return list(watch._runs.values())

        def dig(_: Dig, work: Work) -> None:
            work.execute("UPDATE seam SET dug = dug + 1")
            [this] = runs()
            eventually(lambda: this.took > this.limit + 0.5)

        store.send(sent := command(Dig(n=1)))
        ended = run(mine(dig, retry=Retry(attempts=1)), watch=watch)
        eventually(lambda: any(each.sampling.waited > 4.5 for each in runs()), PATIENCE)
        seam.commit()
        ended.result(PATIENCE)
        row = store.delivery(sent)
        assert (row["state"], row["attempts"], row["last_error"]) == ("done", 0, None)

    def test_one_that_is_slow_after_it_got_the_lock_has_failed(
        self, store: Any, command: Any, run: Any, seam: Any, eventually: Any
    ) -> None:
        watch = Watch(limit=2.0)

        def dig(_: Dig, work: Work) -> None:
            work.execute("UPDATE seam SET dug = dug + 1")
            work.execute("SELECT pg_sleep(60)")

        store.send(sent := command(Dig(n=1)))
        ended = run(mine(dig, retry=Retry(attempts=1)), watch=watch)
        eventually(lambda: any(each.sampling.waited for each in watch._runs.values()), PATIENCE)
        seam.commit()
        ended.result(PATIENCE)
        assert store.delivery(sent)["last_error"].startswith("TookTooLong")

    def test_one_whose_statement_is_slow_by_itself_has_failed(
        self, store: Any, command: Any, run: Any
    ) -> None:
        store.send(sent := command(Dig(n=1)))
        slow = mine(lambda _, work: work.execute("SELECT pg_sleep(60)"), retry=Retry(attempts=1))  # type: ignore[arg-type]
        run(slow).result(PATIENCE)
        assert store.delivery(sent)["last_error"].startswith("TookTooLong")

    def test_by_default_the_wait_ends_before_the_handler_is_ended(self) -> None:
        assert Bounds().wait < LONGEST


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


class TestStoodStill:
    """A process that was frozen says nothing of its handlers' time."""

    def test_it_counts_wherever_in_a_round_the_watch_was_frozen(
        self, store: Any, command: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(time_limits, "_STOOD_STILL", 0.2)
        looks: list[float] = []
        looked = threading.Semaphore(0)

        def look(_: Watch, run: Run) -> None:
            if not looks:
                time.sleep(0.5)  # the process is frozen, in the midst of a look
            looks.append(run.frozen)
            looked.release()

        monkeypatch.setattr(Watch, "_look", look)

        def handle(_: Dig, work: Work) -> None:
            assert looked.acquire(timeout=PATIENCE)
            assert looked.acquire(timeout=PATIENCE)

        store.send(command(Dig()))
        store.drain_with(mine(handle), watch=Watch(limit=60.0))
        assert looks[0] == 0.0
        assert looks[1] > 0.0

    @pytest.mark.parametrize("cut", [False, True])
    def test_what_froze_after_a_round_began_is_not_counted_in_it(
        self, command: Any, monkeypatch: pytest.MonkeyPatch, cut: bool
    ) -> None:
        """Or a run would fail for it, or its thread count as hung, before the next round knows."""
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now)
        watch = Watch(limit=60.0)
        run = Run("mine", command(Dig()), 60.0, lambda: None, lambda _: frozenset(), locked=False)
        run.late = run.told = run.cut = cut
        now += 10
        run.sampling.ask(10.0)
        run.sampling.answer(False)
        watch._looked = now
        watch._count_frozen([run])
        now += 300  # the process is frozen, in the midst of a round
        watch._look(run)
        watch._count_frozen([run])
        watch._look(run)
        assert run.frozen > 290
        assert (run.late, run.hung) == (cut, False)

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
