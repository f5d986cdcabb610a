"""Runs that give way to the database: which do, how the waits grow, and that it ends."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg.errors
import pytest

from internals import Context, Work
from internals.hop.uncounted_retries import is_over, wait
from saga import Command, Retry, StillLocked


class Fill(Command, kind="silo.fill"):
    n: int = 0


#: What a statement may bring upon itself, with the words that are to be read of it.
OWN_FAULTS = {
    "a quota that a trigger refuses": (
        "DO $$ BEGIN RAISE EXCEPTION 'the quota is used up' USING ERRCODE = '53400'; END $$",
        "the quota is used up",
    ),
    "a function that asks to be run again": (
        "DO $$ BEGIN RAISE EXCEPTION 'once more' USING ERRCODE = '40001'; END $$",
        "once more",
    ),
    "a function that says there is no room": (
        "DO $$ BEGIN RAISE EXCEPTION 'no shelf' USING ERRCODE = '53100'; END $$",
        "no shelf",
    ),
    "a row that somebody has": (
        "SELECT n FROM busy FOR UPDATE NOWAIT",
        "could not obtain lock on row",
    ),
    "a sort that is too large": (
        "SET LOCAL temp_file_limit = 64; SET LOCAL work_mem = 64; "
        "SELECT * FROM generate_series(1, 100000) AS g ORDER BY md5(g::text)",
        "temporary file size exceeds",
    ),
}


def silo(handle: Callable[[Fill, Work], None], **declared: Any) -> Context:
    context = Context("silo")
    context.handles(Fill, retry=Retry(attempts=3, backoff=timedelta(0)), **declared)(handle)
    return context


def waited(row: Any) -> float:
    """Seconds for which a delivery waits, from the database's own moments."""
    return float((row["due_at"] - row["claimed_at"]).total_seconds())


class TestOwnFault:
    @pytest.mark.parametrize("external", [False, True])
    @pytest.mark.parametrize("fault", OWN_FAULTS)
    def test_what_a_statement_brings_upon_itself_is_counted(
        self, store: Any, command: Any, outside: Any, fault: str, external: bool
    ) -> None:
        outside.execute("CREATE TABLE busy AS SELECT 1 AS n")
        statement, words = OWN_FAULTS[fault]
        runs = []

        def handle(message: Fill, work: Work) -> None:
            runs.append(message.n)
            work.begin()
            for each in statement.split("; ") if "DO $$" not in statement else [statement]:
                work.execute(each)

        sent = command(Fill(n=1))
        store.send(sent)
        with store.transaction() as other:
            other.run("SELECT n FROM busy FOR UPDATE", {})
            for _ in range(5):
                store.drain(silo(handle, external=external))
                store.make_due()
        row = store.delivery(sent)
        assert (row["state"], row["attempts"], len(runs)) == ("parked", 3, 3)
        assert words in row["last_error"]
        assert row["yields"] == 0

    def test_the_others_of_its_batch_are_not_run_again(self, store: Any, command: Any) -> None:
        statement, _ = OWN_FAULTS["a quota that a trigger refuses"]
        runs = []

        def handle(message: Fill, work: Work) -> None:
            runs.append(message.n)
            if message.n == 3:
                work.execute(statement)

        store.send(*(command(Fill(n=n)) for n in range(6)))
        store.hop(silo(handle))
        # Once without savepoints and once with them; that it raised is known then.
        assert sorted(runs) == [0, 0, 1, 1, 2, 2, 3, 4, 5]


class TestTrouble:
    def test_it_ends_with_the_database_s_own_words(self, store: Any, command: Any) -> None:
        def handle(_: Fill, work: Work) -> None:
            raise psycopg.errors.DiskFull("could not extend file: No space left on device")

        sent = command(Fill())
        store.send(sent)
        seen = []
        for _ in range(9):
            store.drain_with(silo(handle), yields=4)
            row = store.delivery(sent)
            seen.append((row["state"], row["attempts"], row["yields"]))
            store.make_due()
        assert seen[:7] == [
            *(("pending", 0, n) for n in (1, 2, 3, 4)),
            ("pending", 1, 5),
            ("pending", 2, 6),
            ("parked", 3, 7),
        ]
        assert row["last_error"] == "DiskFull: could not extend file: No space left on device"

    def test_the_wait_grows_from_run_to_run(self, store: Any, command: Any) -> None:
        def handle(_: Fill, work: Work) -> None:
            raise psycopg.errors.DiskFull("no room")

        sent = command(Fill())
        store.send(sent)
        waits = []
        for _ in range(6):
            store.drain(silo(handle))
            waits.append(waited(store.delivery(sent)))
            store.make_due()
        assert waits == sorted(waits)
        assert waits[-1] > 2.0

    def test_a_run_that_ends_otherwise_begins_the_count_anew(
        self, store: Any, command: Any
    ) -> None:
        errors = iter([psycopg.errors.DiskFull("x"), psycopg.errors.DiskFull("x"), ValueError()])

        def handle(_: Fill, work: Work) -> None:
            raise next(errors)

        sent = command(Fill())
        store.send(sent)
        seen = []
        for _ in range(3):
            store.drain(silo(handle))
            row = store.delivery(sent)
            seen.append((row["attempts"], row["yields"]))
            store.make_due()
        assert seen == [(0, 1), (0, 2), (1, 0)]

    @pytest.mark.parametrize("external", [False, True])
    def test_a_conflict_that_is_met_in_every_run_ends_too(
        self, store: Any, command: Any, external: bool
    ) -> None:
        def handle(_: Fill, work: Work) -> None:
            raise psycopg.errors.DeadlockDetected("deadlock detected")

        sent = command(Fill())
        store.send(sent)
        for _ in range(40):
            store.drain_with(silo(handle, external=external), yields=1)
            store.make_due()
        row = store.delivery(sent)
        assert (row["state"], row["attempts"]) == ("parked", 3)
        assert row["last_error"] == "DeadlockDetected: deadlock detected"


class TestCourse:
    def test_conflicts_may_be_lost_more_often_and_wait_less(self) -> None:
        lost, trouble = psycopg.errors.SerializationFailure(), psycopg.errors.DiskFull()
        assert [is_over(21, error, 20) for error in (lost, trouble)] == [False, True]
        assert is_over(241, lost, 20)
        assert wait(30, lost, 0.99) <= 5
        assert wait(30, trouble, 0.0) >= 60

    @pytest.mark.parametrize(
        "error", [psycopg.errors.LockNotAvailable(), StillLocked("it waited for a lock")]
    )
    def test_who_waited_for_a_lock_is_not_put_off_for_minutes(self, error: Exception) -> None:
        """It is free as soon as the transaction of who stands still is ended."""
        assert wait(30, error, 0.99) <= 15
        assert [is_over(yields, error, 20) for yields in (120, 121)] == [False, True]

    @pytest.mark.parametrize(
        "error", [psycopg.errors.DiskFull(), psycopg.errors.DeadlockDetected()]
    )
    def test_no_wait_is_shorter_than_the_one_before_could_be(self, error: Exception) -> None:
        for yields in range(1, 40):
            assert wait(yields + 1, error, 0.0) >= wait(yields, error, 0.0)
            assert wait(yields, error, 0.999) <= 120
