"""`saga parked`: deliveries that failed for good are listed, shown, retried and dropped."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import shop
from counter import NOWHERE, Orders, Ran
from sqlalchemy import text

WHY = "the bank speaks again"


@pytest.fixture
def act(call: Callable[..., Ran]) -> Callable[..., Ran]:
    """Run a command of the shop's, as Ann."""

    def run(*arguments: str, **changes: str) -> Ran:
        return call(*arguments, **({"SAGA_APP": "shop:make", "SAGA_ACTOR": "ann"} | changes))

    return run


def park(orders: Orders, count: int) -> list[UUID]:
    """Stuck sagas whose messages were parked one after the other, a minute apart."""
    ids = orders.stuck(count)
    with orders.runtime.engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE inbox SET done_at = now() - (:count - n) * interval '1 minute' "
                "FROM (SELECT id, row_number() OVER (ORDER BY seq) AS n FROM outbox "
                "WHERE kind = 'payments.charge') AS o WHERE message_id = o.id"
            ),
            {"count": count},
        )
    return ids


def parked(orders: Orders) -> list[str]:
    """Ids of the parked messages, in the order in which they were sent."""
    return [
        id
        for (id,) in orders.rows(
            "SELECT i.message_id::text FROM inbox AS i JOIN outbox AS o ON o.id = i.message_id "
            "WHERE i.state = 'parked' ORDER BY o.seq"
        )
    ]


def delivery(orders: Orders, id: str) -> tuple[Any, ...]:
    [row] = orders.rows(
        "SELECT state, attempts, last_error FROM inbox WHERE message_id = :id", id=UUID(id)
    )
    return row


# --- list and show


def test_list_shows_each_with_what_the_other_commands_take(
    call: Callable[..., Ran], orders: Orders
) -> None:
    park(orders, 2)
    ran = call("parked", "list")
    assert (ran.code, ran.err) == (0, "")
    heading, newest, oldest, total = ran.out.splitlines()
    assert heading.split() == ["MESSAGE", "KIND", "CONSUMER", "PARKED", "SAGA", "TRIED", "ERROR"]
    first, last = parked(orders)
    assert newest.split()[:3] == [last, "payments.charge", "payments"]
    assert oldest.split()[0] == first
    assert oldest.split()[4:7] == ["checkout:stuck-0", "2", "RuntimeError:"]
    assert total == "in all: 2 parked"
    assert call("parked", "list", "--limit", "1").out.splitlines()[-1] == "in all: 2 parked"
    assert call("parked", "list", "--kind", "none").out == "no parked delivery fits\n"


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ([], ["stuck-1", "stuck-0"]),
        (["--consumer", "payments", "--kind", "payments.charge"], ["stuck-1", "stuck-0"]),
        (["--saga", "checkout", "--limit", "1"], ["stuck-1"]),
        (["--since", "1h"], ["stuck-1"]),
        (["--consumer", "stock"], []),
        (["--kind", "stock.reserve"], []),
        (["--saga", "other"], []),
    ],
)
def test_list_as_json_is_an_array_of_those_that_fit(
    call: Callable[..., Ran], orders: Orders, options: list[str], keys: list[str]
) -> None:
    park(orders, 2)
    with orders.runtime.engine.begin() as connection:
        connection.execute(
            text("UPDATE inbox SET done_at = done_at - interval '1 day' WHERE message_id = :id"),
            {"id": parked(orders)[0]},
        )
    document = call("parked", "list", "--json", *options).document
    assert [item["key"] for item in document] == keys
    for item in document:
        assert set(item) == {
            *("message_id", "kind", "consumer", "saga_id", "saga", "key", "attempts"),
            *("last_error", "parked_at"),
        }


def test_show_tells_all_but_what_the_message_says(call: Callable[..., Ran], orders: Orders) -> None:
    [saga] = orders.stuck(1)
    [id] = parked(orders)
    shown = call("parked", "show", id).out
    facts = dict(line.rstrip().split(maxsplit=1) for line in shown.splitlines() if line)
    assert facts["id"] == id
    assert facts["state"].startswith("parked at ")
    assert facts["consumer"] == "payments"
    assert facts["attempts"] == "2"
    assert facts["error"].startswith("RuntimeError: the bank speaks no known language")
    assert str(saga) in shown
    assert "payload" not in shown
    assert "cents" not in shown
    assert '"cents": 13' in call("parked", "show", id, "--payload").out


def test_show_as_json_has_the_payload_only_if_asked(
    call: Callable[..., Ran], orders: Orders
) -> None:
    [saga] = orders.stuck(1)
    [id] = parked(orders)
    document = call("parked", "show", id, "--json").document
    assert set(document) == {
        *("id", "kind", "category", "sender", "causation_id", "root_id", "saga_id", "saga", "key"),
        *("sent_at", "deliveries", "audit"),
    }
    assert (document["kind"], document["sender"]) == ("payments.charge", "saga.checkout")
    assert (document["saga_id"], document["key"]) == (str(saga), "stuck-0")
    [of] = orders.rows("SELECT kind FROM outbox WHERE id = :id", id=UUID(document["causation_id"]))
    assert of == ("saga.done",)
    [one] = document["deliveries"]
    assert (one["consumer"], one["state"], one["attempts"], one["rings"]) == (
        *("payments", "parked", 2, 0),
    )
    asked = call("parked", "show", id, "--json", "--payload").document
    assert asked["payload"] == {"number": "stuck-0", "cents": 13}


# --- retry and drop


def test_a_retried_one_is_delivered_again_with_all_its_attempts(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)
    [id] = parked(orders)
    ran = act("parked", "retry", id, "--reason", WHY)
    assert (ran.code, ran.err, ran.out) == (0, "", f"{id} retried\n")
    assert delivery(orders, id)[:2] == ("pending", 0)
    assert orders.audit() == [("ann", "parked retry", WHY)]
    orders.handle()  # the bank has not changed
    assert delivery(orders, id)[:2] == ("parked", 2)
    assert f"parked retry {id}" in act("parked", "show", id).out


def test_a_dropped_one_is_kept_with_the_reason(act: Callable[..., Ran], orders: Orders) -> None:
    orders.stuck(1)
    [id] = parked(orders)
    ran = act("parked", "drop", id, "--reason", WHY)
    assert (ran.code, ran.err, ran.out) == (0, "", f"{id} dropped\n")
    state, _, error = delivery(orders, id)
    assert state == "revoked"
    assert error.endswith(f"dropped: {WHY}")
    assert orders.audit() == [("ann", "parked drop", WHY)]
    assert "revoked at " in act("parked", "show", id).out


@pytest.mark.parametrize(("command", "state"), [("retry", "pending"), ("drop", "revoked")])
def test_those_that_fit_are_told_and_acted_on(
    act: Callable[..., Ran], orders: Orders, command: str, state: str
) -> None:
    park(orders, 2)
    ids = parked(orders)
    arguments = ["parked", command, "--consumer", "payments", "--saga", "checkout", "--reason", WHY]
    before = orders.tables()
    asked = act(*arguments)
    assert asked.code == 2
    told = f"2 parked messages fit: payments.charge {ids[0]}, payments.charge {ids[1]}"
    assert asked.complaint == (
        f"{told}; add --yes to {command} them, or --dry-run to see what would be done"
    )
    assert orders.tables() == before
    ran = act(*arguments, "--yes", "--json")
    assert ran.err == f"{told}\n"
    assert ran.document["act"] == f"parked {command}"
    assert [one["id"] for one in ran.document["done"]] == ids  # the oldest first
    assert {delivery(orders, id)[0] for id in ids} == {state}
    assert len(orders.audit()) == 2
    again = act(*arguments)
    assert (again.code, again.out) == (0, "nothing to do: no parked message fits\n")


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_one_that_is_not_parked_does_not_stop_the_others(
    act: Callable[..., Ran], orders: Orders, command: str
) -> None:
    orders.stuck(1)
    [id] = parked(orders)
    unknown = str(uuid4())
    ran = act("parked", command, unknown, id, id, "--reason", WHY, "--json")
    assert ran.code == 1
    assert [one["id"] for one in ran.printed["done"]] == [id]
    [refused] = ran.printed["refused"]
    assert refused["id"] == unknown
    assert "not parked" in refused["why"]
    assert len(orders.audit()) == 1
    alone = act("parked", command, id, "--reason", WHY)
    assert "not parked" in alone.complaint
    assert alone.code == 1


@pytest.mark.parametrize("command", ["retry", "drop"])
@pytest.mark.parametrize("how", ["id", "filter"])
def test_a_dry_run_changes_nothing(
    act: Callable[..., Ran], orders: Orders, command: str, how: str
) -> None:
    orders.stuck(1)
    [id] = parked(orders)
    which = [id] if how == "id" else ["--kind", "payments.charge"]
    before = orders.tables()
    ran = act("parked", command, *which, "--reason", WHY, "--dry-run")
    assert ran.code == 0
    assert f"{id} would be {'retried' if command == 'retry' else 'dropped'}\n" in ran.out
    assert orders.tables() == before


# --- complaints


@pytest.mark.parametrize("command", ["retry", "drop"])
def test_each_act_needs_a_reason_an_application_and_a_choice(
    act: Callable[..., Ran], orders: Orders, command: str
) -> None:
    orders.stuck(1)
    [id] = parked(orders)
    missing = act("parked", command, id)
    assert missing.complaint == f"Missing option '--reason'; see `saga parked {command} --help`"
    blank = act("parked", command, id, "--reason", "")
    assert blank.complaint.startswith("--reason is blank")
    bare = act("parked", command, id, "--reason", WHY, SAGA_APP="")
    assert bare.complaint.startswith(f"`saga parked {command}` needs your application")
    neither = act("parked", command, "--reason", WHY)
    assert neither.complaint.startswith(f"say which messages to {command}: ids, or --group, ")
    both = act("parked", command, id, "--kind", "payments.charge", "--reason", WHY)
    assert both.complaint == "name messages, or say which ones fit; not both"
    wrong = act("parked", command, "stuck-0", "--reason", WHY)
    assert wrong.complaint.startswith("'stuck-0' is no message's id; `saga parked list` shows")
    assert {ran.code for ran in (missing, blank, bare, neither, both, wrong)} == {2}
    assert parked(orders) == [id]
    assert orders.audit() == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["show", "x"], "'x' is no message's id; `saga parked list` shows those parked"),
        (["show", str(UUID(int=7))], f"no message has the id {UUID(int=7)}; `saga parked list`"),
        (["list", "--since", "soon"], "--since 'soon' must be a number and a unit"),
        (["frobnicate"], "No such command 'frobnicate'; see `saga parked --help`"),
    ],
)
def test_a_wrong_call_gets_one_sentence(
    call: Callable[..., Ran], orders: Orders, arguments: list[str], sentence: str
) -> None:
    ran = call("parked", *arguments)
    assert sentence in ran.complaint
    assert ran.code == 2


@pytest.mark.parametrize("arguments", [["list"], ["show", str(UUID(int=7))]])
def test_postgres_gone_is_told(call: Callable[..., Ran], arguments: list[str]) -> None:
    ran = call("parked", *arguments, SAGA_DATABASE_URL=NOWHERE)
    assert ran.complaint.endswith("Connection refused; see SAGA_DATABASE_URL")
    assert ran.code == 1


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


def of(group: dict[str, Any]) -> str:
    return str(group["consumer"])


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
