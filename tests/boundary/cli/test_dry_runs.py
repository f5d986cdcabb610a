"""What `saga replay`, `skip`, `cancel` and `signal` ask for, would do, and say."""

import re
from collections.abc import Callable

import pytest

from tests.boundary.cli.parcels import HEAL, WHY, Parcels
from tests.boundary.worlds.command_line import NOWHERE, Orders, Ran

ACTS = [
    ["replay", "stuck-0"],
    ["skip", "stuck-0", "payment"],
    ["cancel", "A-1"],
]


SIGNAL = ["signal", "P-1", "door.signed", "--data", '{"by": "x"}']


@pytest.mark.parametrize("arguments", ACTS)
def test_a_dry_run_says_what_would_be_and_changes_nothing(
    act: Callable[..., Ran], orders: Orders, arguments: list[str]
) -> None:
    orders.stuck(1)
    orders.place("A-1")
    before = orders.tables()
    ran = act(*arguments, "--reason", WHY, "--dry-run")
    assert (ran.code, ran.err) == (0, "")
    assert " would be " in ran.out
    assert orders.tables() == before
    done = act(*arguments, "--reason", WHY).out
    assert ran.out.replace("would be ", "").replace("would send", "sent") == done
    assert orders.tables() != before


def test_so_does_that_of_a_signal(act: Callable[..., Ran], parcels: Parcels) -> None:
    parcels.place("P-1")
    before = parcels.tables()
    ran = act(*SIGNAL, "--reason", WHY, "--dry-run", SAGA_APP="waiting_app:make")
    assert (ran.code, ran.out) == (0, "parcel:P-1 would be signalled: door.signed\n")
    assert parcels.tables() == before


def test_a_dry_run_meets_the_same_refusal(act: Callable[..., Ran], orders: Orders) -> None:
    orders.place("A-1")
    tried = act("replay", "A-1", "--reason", WHY, "--dry-run")
    assert tried == act("replay", "A-1", "--reason", WHY)
    assert tried.code == 1


@pytest.mark.parametrize("arguments", [*ACTS, SIGNAL])
def test_each_needs_a_reason_an_application_and_a_saga(
    act: Callable[..., Ran], orders: Orders, arguments: list[str]
) -> None:
    name, *rest = arguments
    missing = act(*arguments)
    assert missing.complaint == f"Missing option '--reason'; see `saga {name} --help`"
    blank = act(*arguments, "--reason", " \n")
    assert blank.complaint.startswith("--reason is blank")
    nobody = act(*arguments, "--reason", WHY, "--actor", "")
    assert nobody.complaint.startswith("--actor is blank")
    bare = act(*arguments, "--reason", WHY, SAGA_APP="")
    assert bare.complaint.startswith(f"`saga {name}` needs your application")
    unknown = act(name, "none", *rest[1:], "--reason", WHY)
    assert unknown.complaint.startswith("no saga has the id or key 'none'")
    assert {ran.code for ran in (missing, blank, nobody, bare, unknown)} == {2}
    gone = act(*arguments, "--reason", WHY, SAGA_DATABASE_URL=NOWHERE)
    assert gone.complaint.endswith("Connection refused; see SAGA_DATABASE_URL")
    assert gone.code == 1
    assert orders.audit() == []


def test_json_is_one_document_and_a_refusal_is_in_it(
    act: Callable[..., Ran], orders: Orders
) -> None:
    [id] = orders.stuck(1)
    ran = act("replay", "stuck-0", "--reason", WHY, "--json")
    assert ran.err == ""
    assert ran.document == {
        "act": "replay",
        "dry_run": False,
        "actor": "ann",
        "reason": WHY,
        "done": [
            {
                "id": str(id),
                "label": "stuck-0",
                "before": "stuck",
                "after": "running",
                "sent": ["payments.charge"],
                "retried": [],
            }
        ],
        "refused": [],
        "untouched": 0,
        "stopped": None,
    }
    refused = act("replay", "stuck-0", "--reason", WHY, "--json")
    assert refused.code == 1
    [one] = refused.printed["refused"]
    assert one["label"] == "stuck-0"
    assert refused.err == f"saga: {one['why']}\n"


def test_without_a_name_the_login_and_the_host_act(
    act: Callable[..., Ran], orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.stuck(1)
    monkeypatch.setattr("getpass.getuser", lambda: "bob")
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    act("replay", "stuck-0", "--reason", WHY, SAGA_ACTOR="")
    act("cancel", "stuck-0", "--reason", WHY, "--actor", "carol")
    assert [actor for actor, _, _ in orders.audit()] == ["bob@desk", "carol"]


def test_show_tells_what_to_do_next_and_what_was_done(
    act: Callable[..., Ran], call: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(1)
    shown = act("show", "stuck-0").out
    assert shown.splitlines()[-1] == "saga replay checkout:stuck-0 --reason WHY"
    [(parked,)] = orders.rows("SELECT message_id::text FROM inbox WHERE state = 'parked'")
    assert re.search(rf"{parked} +payments\.charge +payments +2", shown)
    other = call("--app", "shop:make", "show", "stuck-0").out.splitlines()[-1]
    assert other == "saga --app shop:make replay checkout:stuck-0 --reason WHY"

    act("parked", "retry", parked, "--reason", "the line was cut", SAGA_ACTOR="bob")
    orders.handle()
    act("replay", "stuck-0", "--reason", WHY, *HEAL)
    shown = act("show", "stuck-0").out
    lines = map(str.rstrip, shown.splitlines())
    first, second = (line for line in lines if line.endswith((WHY, "was cut")))
    assert re.fullmatch(rf"[\d: -]+ bob +parked retry {parked} +the line was cut", first)
    assert re.fullmatch(rf"[\d: -]+ ann +replayed with cents corrected +{WHY}", second)
    assert "saga replay" not in shown
    audit = act("show", "stuck-0", "--json").document["audit"]
    assert [(entry["actor"], entry["act"]) for entry in audit] == [
        ("bob", "parked retry"),
        ("ann", "replayed"),
    ]
    assert audit[1]["detail"]["data"] == {"cents": 100}


def test_the_next_command_takes_any_key(act: Callable[..., Ran], orders: Orders) -> None:
    id = orders.place("two words\x1b", cents=13)
    orders.place("it's", cents=13)
    orders.handle()
    assert act("show", "it's").out.splitlines()[-1] == (
        """saga replay 'checkout:it'"'"'s' --reason WHY"""
    )
    assert act("show", str(id)).out.splitlines()[-1] == f"saga replay {id} --reason WHY"
