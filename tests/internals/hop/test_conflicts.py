"""Conflicts with other transactions are nobody's failure and nobody's death, however many there are."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError

import internals.hop.context_consumer
from internals import Context, Work
from internals.database.commit_points import Boundary, watch
from internals.database.connections import SqlAlchemyDatabase
from internals.hop import drain
from saga import Command, Retry

DELIVERIES, THREADS, ROWS = 48, 12, 2


class Book(Command, kind="till.book"):
    n: int = 0


def book(message: Book, work: Work) -> None:
    """Read a row and write what was read: of two at once the database lets one win."""
    row = {"id": message.n % ROWS}
    [(sold,)] = work.execute("SELECT sold FROM till WHERE id = %(id)s", row)
    work.execute("UPDATE till SET sold = %(sold)s WHERE id = %(id)s", {"sold": sold + 1, **row})


@pytest.mark.parametrize("suspect", [False, True])
def test_a_storm_of_them_counts_nothing(
    store: Any, command: Any, outside: Any, monkeypatch: pytest.MonkeyPatch, suspect: bool
) -> None:
    """Under SERIALIZABLE, with more threads than rows; as suspects each start is counted first."""
    monkeypatch.setattr(internals.hop.context_consumer, "SUSPECT_STARTS", 2)
    outside.execute("CREATE TABLE till (id int PRIMARY KEY, sold int NOT NULL DEFAULT 0)")
    outside.execute(f"INSERT INTO till SELECT n FROM generate_series(0, {ROWS - 1}) AS n")
    sent = [command(Book(n=n)) for n in range(DELIVERIES)]
    store.send(*sent)
    if suspect:
        for message in sent:
            store.suspect(message)
    context = Context("till")
    context.handles(Book, retry=Retry(attempts=1))(book)
    engine = create_engine(
        store.engine.url,
        isolation_level="SERIALIZABLE",
        pool_size=THREADS,
        connect_args={"options": f"-c search_path={store.schema},public"},
    )
    database, consumer = SqlAlchemyDatabase(engine), store.consumer(context, suspect_lease=1.0)
    over = threading.Event()
    until = time.monotonic() + 120

    def work() -> None:
        while not over.is_set() and time.monotonic() < until:
            with suppress(DBAPIError, psycopg.Error):  # as a worker leaves it to the relay
                drain(database, consumer, lambda _: None)
            if not store.rows("SELECT 1 AS one FROM inbox WHERE state = 'pending' LIMIT 1"):
                over.set()

    with ThreadPoolExecutor(THREADS) as pool:
        for run in [pool.submit(work) for _ in range(THREADS)]:
            run.result()
    engine.dispose()
    rows = store.deliveries("till")
    assert {(row["state"], row["attempts"]) for row in rows} == {("done", 0)}
    assert sum(row["sold"] for row in store.rows("SELECT sold FROM till")) == DELIVERIES


@pytest.fixture
def conflicting() -> Iterator[Callable[[int], None]]:
    """Have the next commits of leased deliveries lose against another transaction."""

    def set_up(times: int) -> None:
        left = iter(range(times))

        def conflict(boundary: Boundary, moment: str) -> None:
            if (boundary, moment) == (Boundary.LEASED, "before") and next(left, None) is not None:
                raise psycopg.errors.SerializationFailure("could not serialize access")

        watch(conflict)

    yield set_up
    watch(None)


@pytest.mark.parametrize("external", [False, True])
def test_a_start_that_ended_in_conflicts_is_uncounted_again(
    store: Any, command: Any, conflicting: Callable[[int], None], external: bool
) -> None:
    """However often the database refuses to take that down."""
    context = Context("till")
    context.handles(Book, external=external, retry=Retry(attempts=1))(lambda *_: None)
    message = command(Book())
    store.send(message)
    store.suspect(message)
    conflicting(5)
    store.drain(context)
    row = store.delivery(message)
    assert (row["state"], row["attempts"], row["lease"]) == ("pending", 0, None)
    assert "could not serialize access" in row["last_error"]
    store.make_due()
    store.drain(context)
    assert store.delivery(message)["state"] == "done"


@pytest.mark.parametrize("external", [False, True])
def test_a_failure_that_meets_conflicts_is_counted_with_its_own_words(
    store: Any, command: Any, conflicting: Callable[[int], None], external: bool
) -> None:
    runs: list[int] = []

    def handle(message: Book, work: Work) -> None:
        runs.append(message.n)
        raise ValueError("no change")

    context = Context("till")
    context.handles(Book, external=external, retry=Retry(attempts=1))(handle)
    message = command(Book())
    store.send(message)
    store.suspect(message)
    conflicting(5)
    store.drain(context)
    row = store.delivery(message)
    assert (row["state"], row["attempts"], runs) == ("parked", 1, [0])
    assert row["last_error"] == "ValueError: no change"
