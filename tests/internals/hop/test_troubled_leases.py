"""Calls to the outside that meet a database in trouble: that is never the handler's failure."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, text

from internals import Context, Work
from internals.database.commit_points import Boundary
from internals.database.connections import SqlAlchemyDatabase
from internals.hop import drain
from internals.store.inbox import Inbox
from saga import Command, Retry


class Dial(Command, kind="phone.dial"):
    n: int = 0


def phone(handle: Callable[[Dial, Work], None], **declared: Any) -> Context:
    """A context whose one handler calls out."""
    context = Context("phone")
    context.handles(Dial, external=True, **declared)(handle)
    return context


def test_a_connection_that_is_lost_in_it_is_no_attempt(store: Any, command: Any, note: Any) -> None:
    calls: list[str] = []

    def handle(message: Dial, work: Work) -> None:
        calls.append(work.idempotency_key)
        work.begin()
        note(work, message.n)
        if len(calls) == 1:
            work.connection.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    context, message = phone(handle, retry=Retry(attempts=1)), command(Dial(n=1))
    store.send(message)
    store.drain(context)
    row = store.delivery(message)
    assert (row["state"], row["attempts"]) == ("pending", 0)
    store.make_due()
    store.drain(context)
    assert store.delivery(message)["state"] == "done"
    assert store.effects() == [1]
    assert len(set(calls)) == 1


@pytest.mark.parametrize(("when", "left"), [("before", "pending"), ("after", "done")])
def test_a_connection_that_is_lost_at_its_commit_is_no_attempt_either(
    store: Any, command: Any, note: Any, strike: Any, when: str, left: str
) -> None:
    keys: list[str] = []

    def handle(message: Dial, work: Work) -> None:
        keys.append(work.idempotency_key)
        work.begin()
        note(work, message.n)

    context, message = phone(handle, retry=Retry(attempts=1)), command(Dial(n=1))
    store.send(message)
    strike(Boundary.LEASED, when, psycopg.OperationalError("the connection is lost"))
    store.drain(context)
    row = store.delivery(message)
    assert (row["state"], row["lease"]) == (left, None)
    assert row["attempts"] == 0
    store.make_due()
    store.drain(context)
    assert store.delivery(message)["state"] == "done"
    assert store.effects() == [1]
    assert len(set(keys)) == 1


def test_a_connection_that_is_lost_as_it_is_settled_is_no_attempt_either(
    store: Any, command: Any, note: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys: list[str] = []
    finish = Inbox.finish

    def lost(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(Inbox, "finish", finish)
        raise psycopg.OperationalError("the connection is lost")

    def handle(message: Dial, work: Work) -> None:
        keys.append(work.idempotency_key)
        if len(keys) == 1:
            monkeypatch.setattr(Inbox, "finish", lost)
        work.begin()
        note(work, message.n)

    context, message = phone(handle, retry=Retry(attempts=1)), command(Dial(n=1))
    store.send(message)
    store.drain(context)
    row = store.delivery(message)
    assert (row["state"], row["attempts"], row["lease"]) == ("pending", 0, None)
    assert store.effects() == []
    store.make_due()
    store.drain(context)
    assert store.delivery(message)["state"] == "done"
    assert store.effects() == [1]
    assert len(set(keys)) == 1


def test_any_other_error_at_its_commit_is_raised(store: Any, command: Any, strike: Any) -> None:
    store.send(command(Dial()))
    strike(Boundary.LEASED, "before", ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        store.drain(phone(lambda _, work: work.begin()))


def test_a_pool_that_has_no_connection_for_it_is_no_failure_of_the_handler(
    store: Any, command: Any, note: Any
) -> None:
    engine = create_engine(
        store.engine.url,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0,
        connect_args={"options": f"-c search_path={store.schema}"},
    )
    runs: list[int] = []

    def handle(message: Dial, work: Work) -> None:
        runs.append(message.n)
        with engine.connect() if len(runs) == 1 else nullcontext():
            work.begin()
        note(work, message.n)

    consumer, message = phone(handle, retry=Retry(attempts=1)), command(Dial(n=1))
    store.send(message)
    try:
        for state in ("pending", "done"):
            store.make_due()
            drain(SqlAlchemyDatabase(engine), store.consumer(consumer), lambda _: None)
            row = store.delivery(message)
            assert row["state"] == state
    finally:
        engine.dispose()
    assert (runs, store.effects()) == ([1, 1], [1])


def test_what_its_own_remote_system_says_about_a_timeout_is_its_failure(
    store: Any, command: Any
) -> None:
    def handle(message: Dial, work: Work) -> None:
        raise psycopg.OperationalError("the other database does not answer")

    message = command(Dial())
    store.send(message)
    store.drain(phone(handle, retry=Retry(attempts=1)))
    assert store.delivery(message)["state"] == "parked"
