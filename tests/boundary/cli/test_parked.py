"""`saga parked`: deliveries that failed for good are listed, shown, retried and dropped."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from tests.boundary.cli.parking import WHY, delivery, park, parked
from tests.boundary.worlds.command_line import NOWHERE, Orders, Ran

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
