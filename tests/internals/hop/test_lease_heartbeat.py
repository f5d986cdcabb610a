"""Leases are renewed while their run lives, and not longer: a slow call is made once."""

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from boundary.operations import show_saga
from internals import Context, Work
from internals.database.commit_points import Boundary, watch
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.hop import hop
from internals.hop.consumer import Handled
from internals.hop.lease import Leased
from internals.hop.lease_heartbeat import Heartbeat, Held
from saga import CAUSAL, SETTLED, Command, Done, Rejected, Retry, Saga, Step

#: Seconds: long enough for a renewal on a machine that is busy, and short for a test.
LEASE = 1.0


class Dial(Command, kind="phone.dial"):
    n: int = 0


def phone(handle: Callable[[Dial, Work], None], **declared: Any) -> Context:
    """A context whose one handler calls out."""
    context = Context("phone")
    declared = {"external": True, "lease": timedelta(seconds=LEASE), **declared}
    context.handles(Dial, **declared)(handle)
    return context


def leased_by(done: Handled) -> Leased:
    """What a hop leased, to be run after its commit."""
    assert isinstance(done.after_commit, partial)
    (leased,) = done.after_commit.args
    assert isinstance(leased, Leased)
    return leased


def until(condition: Callable[[], object]) -> None:
    """Wait for a condition; fails if it does not come."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def renewed(store: Any, message: Any, times: int) -> Callable[[], bool]:
    """Whether the delivery's lease was moved so often since this was asked for."""
    seen = {store.delivery(message)["due_at"]}

    def look() -> bool:
        seen.add(store.delivery(message)["due_at"])
        return len(seen) > times

    return look


def test_a_call_that_takes_longer_than_its_lease_is_made_once(
    store: Any, command: Any, note: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[str] = []

    def handle(message: Dial, work: Work) -> None:
        calls.append(work.idempotency_key)
        first = store.delivery(sent)["due_at"]
        moved = renewed(store, sent, 2)
        until(lambda: moved() and store.clock() > first)
        assert store.hop(context).claimed == 0  # nobody else may have it
        work.begin()
        note(work, message.n)

    context, sent = (
        phone(handle, retry=Retry(attempts=1)),
        command(Dial(n=1), saga="trip", awaits=(Done.kind,)),
    )
    store.send(sent)
    store.drain(context)
    row = store.delivery(sent)
    assert (row["state"], row["attempts"], len(calls)) == ("done", 0, 1)
    assert row["last_error"].startswith("took longer than its lease: ")
    assert "took longer than its lease" in caplog.text
    assert store.effects() == [1]
    assert len(store.sent(Done.kind)) == 1


def test_so_is_a_suspects(store: Any, command: Any, note: Any) -> None:
    def handle(message: Dial, work: Work) -> None:
        note(work, message.n)
        until(renewed(store, sent, 2))

    sent = command(Dial(n=1))
    store.send(sent)
    store.suspect(sent)
    store.drain_with(phone(handle, external=False), suspect_lease=LEASE)
    assert store.delivery(sent)["state"] == "done"
    assert store.effects() == [1]


def test_all_leases_of_a_process_are_renewed_by_one_statement(store: Any, command: Any) -> None:
    heartbeat, sent = Heartbeat(store.statements), [command(Dial(n=n)) for n in range(3)]
    store.send(*sent)
    context = phone(lambda _, __: None)
    leased = [leased_by(hop(store.database, store.consumer(context))) for _ in sent]
    before = {row["due_at"] for row in store.deliveries("phone")}
    left: list[int] = []

    def seen(boundary: Boundary, moment: str) -> None:
        if (boundary, moment) == (Boundary.RELAY, "after"):
            left.append(len(before & {row["due_at"] for row in store.deliveries("phone")}))

    watch(seen)
    try:
        with ExitStack() as stack:
            for each in leased:
                assert each is not None
                held = Held("phone", (each.delivery.message.id,), each.lease, LEASE)
                stack.enter_context(heartbeat.keep(store.database, held))
            until(lambda: left)
    finally:
        watch(None)
    assert left[0] == 0


@pytest.mark.parametrize("why", ["over", "limit", "gone to another", "settled"])
def test_nothing_is_renewed_for_a_run_that_does_not_live(
    store: Any, command: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heartbeat, sent, other = Heartbeat(store.statements), command(Dial(n=1)), command(Dial(n=2))
    store.send(sent, other)
    context = phone(lambda _, __: None)
    first, second = [leased_by(hop(store.database, store.consumer(context))) for _ in range(2)]
    assert first is not None
    assert second is not None
    lease = uuid4() if why == "gone to another" else first.lease
    limit = 0.0 if why == "limit" else 3600.0
    if why == "settled":
        store.rows(
            "UPDATE inbox SET state = 'done', outcome = 'handled' WHERE message_id = %s "
            "RETURNING 1 AS one",
            first.delivery.message.id,
        )
    before = store.delivery(first.delivery.message)["due_at"]
    held = Held("phone", (first.delivery.message.id,), lease, LEASE, limit=limit)
    living = Held("phone", (second.delivery.message.id,), second.lease, LEASE)
    moved = renewed(store, second.delivery.message, 2)
    with heartbeat.keep(store.database, living):
        with heartbeat.keep(store.database, held):
            if why != "over":
                until(moved)
        if why == "over":
            until(moved)
    assert store.delivery(first.delivery.message)["due_at"] == before


def test_the_lease_of_a_run_that_nobody_ends_is_not_renewed_for_ever(
    store: Any, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who hangs beyond the handler's limit is left to others, whatever else fails."""
    kept: list[Held] = []

    def keep(self: Heartbeat, database: Any, held: Held) -> Any:
        kept.append(held)
        return nullcontext()

    monkeypatch.setattr(Heartbeat, "keep", keep)
    limit = timedelta(seconds=7)
    store.send(command(Dial(n=1)))
    store.drain(phone(lambda _, __: None, limit=limit))
    (held,) = kept
    assert limit.total_seconds() <= held.limit <= limit.total_seconds() + 60


def test_a_renewal_that_fails_is_tried_again(store: Any, command: Any, strike: Any) -> None:
    heartbeat, sent = Heartbeat(store.statements), command(Dial(n=1))
    store.send(sent)
    leased = leased_by(store.hop(phone(lambda _, __: None)))
    strike(Boundary.RELAY, "before", psycopg.OperationalError("the server is gone"))
    moved = renewed(store, sent, 1)
    with heartbeat.keep(store.database, Held("phone", (sent.id,), leased.lease, LEASE)):
        until(moved)


def test_stopping_waits_for_a_renewal_that_is_under_way(store: Any, command: Any) -> None:
    """Whoever closes the connections next must not find one in its hands."""
    sent = command(Dial(n=1))
    store.send(sent)
    leased = leased_by(store.hop(phone(lambda _, __: None)))
    under_way, go_on = threading.Event(), threading.Event()

    def hold(boundary: Boundary, moment: str) -> None:
        if (boundary, moment) == (Boundary.RELAY, "before"):
            under_way.set()
            assert go_on.wait(60)

    watch(hold)
    try:
        with store.heartbeat.keep(store.database, Held("phone", (sent.id,), leased.lease, LEASE)):
            assert under_way.wait(60)
        stopping = threading.Thread(target=store.heartbeat.stop, args=(60.0,))
        stopping.start()
        stopping.join(0.1)
        assert stopping.is_alive()
        go_on.set()
        stopping.join(60)
    finally:
        watch(None)
    assert not stopping.is_alive()
    assert store.engine.pool.checkedout() == 0


class Send(Command, kind="post.send"):
    n: int


class Fail(Command, kind="post.fail"):
    n: int


def test_what_took_longer_than_its_lease_is_undone_as_all_else(
    runtime: Callable[..., Any], outside: Any
) -> None:
    """What is noted with the delivery does not make it look as if nothing had been done."""
    undone: list[int] = []
    post = Context("post")

    def take_back(command: Send, _: Work) -> None:
        undone.append(command.n)
        time.sleep(0.05)  # so does its undo, which has left nothing standing

    @post.handles(Send, external=True, lease=timedelta(seconds=0.01), undo=take_back)
    def send(command: Send, work: Work) -> None:
        time.sleep(0.05)  # longer than its lease; nothing waits for it

    @post.handles(Fail)
    def fail(command: Fail, work: Work) -> None:
        raise Rejected("the post is closed")

    mailing: Saga[Send] = Saga(
        "mailing",
        Send,
        steps=(
            Step("send", lambda data: data, until=SETTLED, compensation=CAUSAL),
            Step("fail", lambda data: Fail(n=data.n)),
        ),
    )
    made = runtime([mailing], [post])
    with made.engine.begin() as connection:
        made.start(connection, mailing, Send(n=7))
    while sum(made.answer(name) for name in made._wiring.consumers):
        pass
    ended = outside.execute(
        "SELECT kind, outcome, last_error FROM inbox JOIN outbox ON id = message_id "
        "WHERE consumer = 'post' AND kind IN ('post.send', 'saga.undo') ORDER BY seq"
    ).fetchall()
    assert [row[:2] for row in ended] == [("post.send", "overran"), ("saga.undo", "overran")]
    assert ended[0][2].startswith("took longer than its lease")
    [(id,)] = outside.execute("SELECT id FROM saga").fetchall()
    with made.engine.connect() as connection:
        shown = show_saga(SqlAlchemyUnitOfWork(connection), made.settings.db_schema, id)
    assert shown.standing == ()
    assert outside.execute("SELECT status FROM saga").fetchall() == [("compensated",)]
    assert undone == [7]
