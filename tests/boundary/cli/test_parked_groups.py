"""`saga parked`: groups by cause, canaries, and messages that are parked at two consumers."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from tests.boundary.cli.parking import WHY, of, park, parked
from tests.boundary.worlds import shop
from tests.boundary.worlds.command_line import Orders, Ran


@pytest.mark.parametrize(("command", "state"), [("retry", "pending"), ("drop", "revoked")])
def test_a_message_that_is_parked_twice_is_acted_on_at_the_consumer_that_is_named(
    act: Callable[..., Ran], orders: Orders, command: str, state: str
) -> None:
    orders.stuck(1)
    with orders.runtime.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO inbox (message_id, consumer, state, outcome, due_at, ring_at, done_at) "
                "SELECT message_id, 'ledger', state, outcome, due_at, ring_at, done_at FROM inbox "
                "WHERE state = 'parked'"
            )
        )
    act("parked", command, "--consumer", "ledger", "--reason", WHY, "--yes")
    found = orders.rows(
        "SELECT consumer, state FROM inbox WHERE consumer IN ('ledger', 'payments')"
    )
    assert dict(found) == {"ledger": state, "payments": "parked"}


@pytest.mark.parametrize(("command", "state"), [("retry", "pending"), ("drop", "revoked")])
@pytest.mark.parametrize("how", ["group", "since"])
def test_a_message_that_is_parked_twice_is_acted_on_where_it_fits(
    act: Callable[..., Ran],
    call: Callable[..., Ran],
    orders: Orders,
    command: str,
    state: str,
    how: str,
) -> None:
    orders.stuck(2)
    also_at(orders, "ledger", since="2 days")
    [group] = [g["id"] for g in call("parked", "groups", "--json").document if of(g) == "payments"]
    fits = ["--group", group] if how == "group" else ["--since", "1h"]
    ran = act("parked", command, *fits, "--reason", WHY, "--yes", "--json")
    assert ran.err.startswith("2 parked messages fit: payments.charge ")
    found = orders.rows(
        "SELECT consumer, state FROM inbox WHERE consumer IN ('ledger', 'payments')"
    )
    assert set(found) == {("ledger", "parked"), ("payments", state)}
    assert [one["consumer"] for one in ran.document["done"]] == ["payments", "payments"]
    [first, _] = [one["id"] for one in ran.document["done"]]
    assert f"parked {command} {first} at payments" in act("parked", "show", first).out


def test_traces_tell_what_was_done_with_it_where_it_was(
    act: Callable[..., Ran], call: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)
    also_at(orders, "ledger")
    act("parked", "retry", "--consumer", "payments", "--reason", WHY, "--yes")
    [saga] = [str(id) for (id,) in orders.rows("SELECT id FROM saga")]
    assert call("trace", saga).out.count(f"parked retry by ann: {WHY}") == 1
    assert call("trace", saga, "--mermaid").out.count(f"parked retry by ann#58; {WHY}") == 1
    acts = {
        delivery["consumer"]: delivery["acts"]
        for message in _messages(call("trace", saga, "--json").document["messages"])
        for delivery in message["deliveries"]
        if message["kind"] == "payments.charge"
    }
    assert acts == {
        "ledger": [],
        "payments": [{"act": "parked retry", "actor": "ann", "reason": WHY}],
    }


def _messages(nodes: list[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        yield from _messages(node["children"])


def test_one_that_fits_twice_is_told_with_each_consumer(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)
    [id] = parked(orders)
    also_at(orders, "ledger")
    ran = act("parked", "drop", "--kind", "payments.charge", "--reason", WHY, "--yes")
    ends = [f"payments.charge {id} at {consumer}" for consumer in ("ledger", "payments")]
    assert ran.err == f"2 parked deliveries fit: {ends[0]}, {ends[1]}\n"
    assert ran.out.splitlines() == [*(f"{end} dropped" for end in ends), "dropped 2, refused 0"]
    assert parked(orders) == []


def also_at(
    orders: Orders, consumer: str, *, state: str = "parked", since: str = "1 second"
) -> None:
    """What is parked has another delivery, of the same age or older, which fails otherwise."""
    with orders.runtime.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO inbox "
                "(message_id, consumer, state, outcome, due_at, ring_at, done_at, last_error) "
                "SELECT message_id, :consumer, :state, 'failed', due_at, ring_at, "
                "done_at - CAST(:since AS interval), 'no ink' FROM inbox WHERE state = 'parked'"
            ),
            {"consumer": consumer, "state": state, "since": since},
        )


# --- groups


def test_groups_are_by_cause_whatever_numbers_and_words_differ(
    orders: Orders, call: Callable[..., Ran]
) -> None:
    ids = orders.stuck(5)
    errors = [
        f"ValueError: no order {ids[0]} of 'ann' in 12 places",
        f"ValueError: no order {ids[1]} of 'bob smith' in 7 places\nat line 4",
        'KeyError: "x"',
        'KeyError: "yz"',
        "KeyError: gone",
    ]
    with orders.runtime.engine.begin() as connection:
        for id, error in zip(parked(orders), errors, strict=True):
            connection.execute(
                text("UPDATE inbox SET last_error = :error WHERE message_id = :id"),
                {"error": error, "id": UUID(id)},
            )
    groups = call("parked", "groups", "--json").document
    assert sorted(group["count"] for group in groups) == [1, 2, 2]
    assert {(group["consumer"], group["kind"]) for group in groups} == {
        ("payments", "payments.charge")
    }
    [first] = [group for group in groups if "order" in group["cause"]]
    assert first["cause"] == "ValueError: no order … of … in … places"
    assert first["example"] == errors[0]
    listed = call("parked", "list", "--group", first["id"], "--json").document
    assert len(listed) == 2
    assert first["id"] in call("parked", "groups").out


def test_a_group_is_retried_with_a_canary_first(
    orders: Orders, act: Callable[..., Ran], call: Callable[..., Ran]
) -> None:
    park(orders, 3)
    [group] = call("parked", "groups", "--json").document
    assert group["count"] == 3
    words = ("parked", "retry", "--group", group["id"], "--canary", "1", "--yes", "--reason", WHY)

    with working(orders, broken=True):
        ran = act(*words)
    assert ran.code == 1
    assert "is parked again" in ran.err
    assert "the other 2 are not touched" in ran.err
    assert len(parked(orders)) == 3

    with working(orders, broken=False):
        ran = act(*words)
    assert ran.code == 0
    assert parked(orders) == []


def test_a_canary_is_looked_at_where_it_was_retried(
    orders: Orders, act: Callable[..., Ran], call: Callable[..., Ran]
) -> None:
    """What is parked elsewhere, for another cause, says nothing of this one."""
    orders.stuck(2)
    also_at(orders, "ledger")
    [group] = [g["id"] for g in call("parked", "groups", "--json").document if of(g) == "payments"]
    with working(orders, broken=False):
        ran = act(
            *("parked", "retry", "--group", group, "--canary", "1", "--wait", "10", "--yes"),
            *("--reason", WHY),
        )
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "retried 2, refused 0")


def test_a_canary_named_by_its_id_is_looked_at_where_it_was_parked(
    orders: Orders, act: Callable[..., Ran]
) -> None:
    orders.stuck(2)
    also_at(orders, "ledger", state="pending")  # nobody handles it
    ids = parked(orders)
    with working(orders, broken=False):
        ran = act("parked", "retry", *ids, "--canary", "1", "--wait", "10", "--reason", WHY)
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "retried 2, refused 0")


def test_a_canary_of_a_saga_is_looked_at_too(
    orders: Orders,
    act: Callable[..., Ran],
    call: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    orders.place("O-1")
    orders.place("O-2")
    orders.handle()

    def park_all() -> None:
        with orders.runtime.engine.begin() as connection:
            connection.execute(
                text(
                    "UPDATE inbox SET state = 'parked', outcome = 'failed', "
                    "last_error = 'KeyError: no course', done_at = now() WHERE consumer = 'saga.checkout' AND message_id IN "
                    "(SELECT id FROM outbox WHERE kind = 'packing.packed')"
                )
            )

    park_all()
    monkeypatch.setattr("boundary.operations.bulk._pause", park_all)
    [group] = call("parked", "groups", "--json").document
    assert (group["consumer"], group["count"]) == ("saga.checkout", 2)
    ran = act("parked", "retry", "--group", group["id"], "--canary", "1", "--yes", "--reason", WHY)
    assert ran.code == 1
    assert "is parked again (KeyError: no course), so the other one is not touched" in ran.err
    assert ran.out.splitlines()[-1] == "retried 1, refused 0, not touched 1"


def test_no_group_no_retry(orders: Orders, act: Callable[..., Ran]) -> None:
    park(orders, 1)
    ran = act("parked", "retry", "--group", "00000000", "--yes", "--reason", WHY)
    assert (ran.code, ran.out) == (0, "nothing to do: no parked message fits\n")
    assert len(parked(orders)) == 1


@contextmanager
def working(orders: Orders, *, broken: bool) -> Iterator[None]:
    """Somebody works while the command waits, with the bug or without."""
    stop = threading.Event()
    handler = shop.payments.handlers["payments.charge"]
    mended = replace(handler, function=handler.function if broken else lambda *_: None)

    def work() -> None:
        while not stop.is_set():
            orders.runtime.answer("payments")

    shop.payments.handlers["payments.charge"] = mended
    worker = threading.Thread(target=work)
    worker.start()
    try:
        yield
    finally:
        stop.set()
        worker.join()
        shop.payments.handlers["payments.charge"] = handler
