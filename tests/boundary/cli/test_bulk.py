"""Acts on many sagas: what fits is told, canaries go first, and a refusal stops nobody else."""

import os
import pty
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from boundary.cli.commands import sagas as acting
from boundary.operations import bulk
from tests.boundary.worlds.command_line import COMMAND, HERE, Orders, Ran

WHY = "the bank speaks again"
HEAL = ["--data", '{"cents": 100}']
REPLAY = ["replay", "--saga", "checkout", "--stuck", "--reason", WHY]
CANCEL = ["cancel", "--saga", "checkout", "--reason", WHY]


@pytest.fixture
def act(call: Callable[..., Ran]) -> Callable[..., Ran]:
    """Run a command of the shop's, as Ann."""

    def run(*arguments: str) -> Ran:
        return call(*arguments, SAGA_APP="shop:make", SAGA_ACTOR="ann")

    return run


@pytest.fixture
def looks(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let everybody work between two looks at the canaries; returns what was replayed by then."""
    seen: list[int] = []

    def work() -> None:
        seen.append(len(orders.audit()))
        orders.handle()

    monkeypatch.setattr(bulk, "_pause", work)
    return seen


def test_what_fits_is_told_and_each_is_replayed(act: Callable[..., Ran], orders: Orders) -> None:
    orders.stuck(7)
    orders.place("waiting")
    ran = act(*REPLAY, *HEAL, "--yes")
    assert ran.code == 0
    assert ran.err == (
        "7 stuck sagas of checkout fit: checkout:stuck-0, checkout:stuck-1, checkout:stuck-2, "
        "checkout:stuck-3, checkout:stuck-4 and 2 more\n"
    )
    *lines, total = ran.out.splitlines()
    assert lines == [
        f"checkout:stuck-{n} replayed: stuck → running; sent payments.charge" for n in range(7)
    ]
    assert total == "replayed 7, refused 0"
    orders.handle()
    assert set(orders.statuses().values()) == {"completed"}
    assert orders.audit() == [("ann", "replayed", WHY)] * 7


def test_many_are_not_all_listed_but_all_are_in_the_document(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(23)
    tried = act(*REPLAY, "--dry-run").out.splitlines()
    assert len(tried) == 22
    assert tried[-2:] == ["and 3 more", "would be replayed 23, refused 0"]
    document = act(*REPLAY, "--yes", "--canary", "0", "--json").document
    assert [one["label"] for one in document["done"]] == [f"checkout:stuck-{n}" for n in range(23)]
    assert (document["untouched"], document["stopped"]) == (0, None)


@pytest.mark.parametrize("command", [REPLAY, CANCEL])
def test_nobody_to_ask_and_no_yes_changes_nothing(
    act: Callable[..., Ran], orders: Orders, command: list[str]
) -> None:
    orders.stuck(2)
    before = orders.tables()
    ran = act(*command)
    assert ran.code == 2
    assert "2 " in ran.complaint
    assert "fit: checkout:stuck-0, checkout:stuck-1; add --yes to " in ran.complaint
    assert orders.tables() == before


@pytest.mark.parametrize("command", [REPLAY, CANCEL])
def test_a_dry_run_of_many_asks_nobody_and_changes_nothing(
    act: Callable[..., Ran], orders: Orders, command: list[str]
) -> None:
    orders.stuck(12)
    before = orders.tables()
    document = act(*command, "--dry-run", "--json").document
    assert document["dry_run"] is True
    assert len(document["done"]) == 12
    assert orders.tables() == before


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1)])
def test_on_a_terminal_it_asks(
    environment: dict[str, str], orders: Orders, answer: str, code: int
) -> None:
    orders.stuck(2)
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    ran = subprocess.run(
        [COMMAND, "--app", "shop:make", *REPLAY, *HEAL],
        stdin=theirs,
        stderr=theirs,
        stdout=subprocess.PIPE,
        check=False,
        cwd=HERE,
        env=environment | {"TERM": "xterm"},
    )
    os.close(theirs)
    said = os.read(ours, 100_000).decode()
    os.close(ours)
    assert ran.returncode == code
    assert "2 stuck sagas of checkout fit" in said
    assert "replay them?" in said
    assert len(orders.audit()) == (2 if answer == "y" else 0)
    assert ("2/2" in said, "nothing was replayed" in said) == (answer == "y", answer == "n")


# --- canaries


def test_a_canary_that_gets_stuck_again_leaves_the_rest_untouched(
    act: Callable[..., Ran], orders: Orders, looks: list[int]
) -> None:
    orders.stuck(11)
    ran = act(*REPLAY, "--yes")
    assert ran.code == 1
    assert looks == [1]
    assert ran.err.splitlines()[1:] == [
        "replayed first: checkout:stuck-0; waiting for what becomes of it",
        "saga: checkout:stuck-0 got stuck again (step payment: payments.charge is parked at "
        "payments: RuntimeError: the bank speaks no known language), so the other 10 are not "
        "touched",
    ]
    assert ran.out.splitlines()[-1] == "replayed 1, refused 0, not touched 10"
    assert len(orders.audit()) == 1


def test_canaries_that_end_well_let_the_rest_follow(
    act: Callable[..., Ran], orders: Orders, looks: list[int]
) -> None:
    orders.stuck(4)
    ran = act(*REPLAY, *HEAL, "--yes", "--canary", "2")
    assert ran.code == 0
    assert looks == [2]
    assert len(orders.audit()) == 4
    assert sorted(orders.statuses().values()) == [*["completed"] * 2, *["running"] * 2]


def test_a_canary_that_shows_nothing_in_time_leaves_the_rest_untouched(
    act: Callable[..., Ran], orders: Orders
) -> None:
    orders.stuck(3)
    ran = act(*REPLAY, *HEAL, "--yes", "--canary", "2", "--wait", "0", "--json")
    assert ran.code == 1
    document = ran.printed
    assert (len(document["done"]), document["untouched"]) == (2, 1)
    assert document["stopped"] == (
        "checkout:stuck-0 is still under way after 0 s, so the other one is not touched; give it "
        "longer with --wait, or go on without canaries: --canary 0"
    )
    assert ran.err.splitlines()[-1] == f"saga: {document['stopped']}"
    assert len(orders.audit()) == 2


@pytest.mark.parametrize(
    ("count", "options", "ahead"),
    [(10, [], []), (11, [], [1]), (11, ["--canary", "0"], []), (2, ["--canary", "2"], [])],
)
def test_one_goes_ahead_of_more_than_ten_unless_told_otherwise(
    act: Callable[..., Ran],
    orders: Orders,
    looks: list[int],
    count: int,
    options: list[str],
    ahead: list[int],
) -> None:
    orders.stuck(count)
    ran = act(*REPLAY, *HEAL, "--yes", *options)
    assert ran.code == 0
    assert looks == ahead
    assert len(orders.audit()) == count


def test_one_that_is_refused_is_no_canary(
    act: Callable[..., Ran], orders: Orders, looks: list[int]
) -> None:
    orders.stuck(3)
    with orders.runtime.engine.begin() as connection:
        connection.execute(text("UPDATE saga SET version = 9 WHERE key = 'stuck-0'"))
    ran = act(*REPLAY, "--yes", "--canary", "1", "--json")
    assert ran.code == 1
    assert [one["label"] for one in ran.printed["done"]] == ["checkout:stuck-1"]
    [refused] = ran.printed["refused"]
    assert (refused["label"], ran.printed["untouched"]) == ("checkout:stuck-0", 1)
    assert "version 9" in refused["why"]
    assert "got stuck again" in ran.printed["stopped"]


# --- refusals, and what stops a command


def test_two_at_once_replay_each_saga_once(
    act: Callable[..., Ran], orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.stuck(3)
    choose = acting.choose_sagas  # type: ignore[attr-defined]

    def overtaken(*arguments: Any, **options: Any) -> Any:
        chosen = choose(*arguments, **options)
        monkeypatch.setattr(acting, "choose_sagas", choose)
        others = act("replay", "stuck-1", "--reason", "was faster", *HEAL)
        assert others.code == 0
        return chosen

    monkeypatch.setattr(acting, "choose_sagas", overtaken)
    ran = act(*REPLAY, *HEAL, "--yes")
    assert ran.code == 1
    assert "checkout:stuck-1 refused: " in ran.out
    assert ran.out.splitlines()[-1] == "replayed 2, refused 1"
    assert sorted(reason for _, _, reason in orders.audit()) == [WHY, WHY, "was faster"]


def test_what_was_done_is_told_when_the_database_goes(
    act: Callable[..., Ran], orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.stuck(3)
    real = acting.act_on_saga  # type: ignore[attr-defined]
    calls: list[int] = []

    def fail(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise OperationalError("", {}, Exception("the line was cut"))
        return real(*arguments, **options)

    monkeypatch.setattr(acting, "act_on_saga", fail)
    ran = act(*REPLAY, *HEAL, "--yes")
    assert ran.code == 1
    assert ran.out.splitlines()[-1] == "replayed 1, refused 0, not touched 2"
    assert ran.err.splitlines()[-1].startswith("saga: Postgres at ")
    assert len(orders.audit()) == 1


def test_progress_is_told_now_and_then(
    act: Callable[..., Ran], orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.stuck(3)
    monkeypatch.setattr("boundary.cli.progress._BETWEEN_LINES", 0.0)
    ran = act(*REPLAY, *HEAL, "--yes", "--json")
    assert ran.err.splitlines()[1:] == [f"replayed {n} of 3" for n in (1, 2, 3)]
    assert len(ran.document["done"]) == 3


# --- which ones


def test_nothing_that_fits_is_nothing_to_do(act: Callable[..., Ran], orders: Orders) -> None:
    orders.place("waiting")
    ran = act(*REPLAY)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == "nothing to do: no stuck saga of checkout fits\n"
    assert act(*REPLAY, "--json").document["done"] == []
    assert act(*CANCEL, "--status", "stuck").out.startswith("nothing to do: no stuck saga of check")


def test_only_those_that_fit_are_cancelled(act: Callable[..., Ran], orders: Orders) -> None:
    orders.stuck(1)
    for key in ("old", "new"):
        orders.place(key)
    with orders.runtime.engine.begin() as connection:
        connection.execute(
            text("UPDATE saga SET started_at = now() - interval '2 hours' WHERE key = 'old'")
        )
    ran = act(*CANCEL, "--status", "running", "--since", "1h", "--yes", "--json")
    assert [one["label"] for one in ran.document["done"]] == ["checkout:new"]
    assert orders.audit() == [("ann", "cancelled", WHY)]
    ran = act(*CANCEL, "--yes", "--json")
    assert [one["label"] for one in ran.printed["done"] + ran.printed["refused"]] == [
        *("checkout:old", "checkout:stuck-0")  # the new one is being compensated by now
    ]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["replay"], "say which sagas to replay: an id or NAME:KEY, or --stuck"),
        (["cancel"], "say which sagas to cancel: an id or NAME:KEY, or --saga NAME"),
        (["replay", "--saga", "checkout"], "--saga checkout needs --stuck: only a stuck saga"),
        (["replay", "x", "--since", "1h"], "--since needs --stuck"),
        (["replay", "x", "--stuck"], "name sagas, or say which ones fit; not both"),
        (["cancel", "x", "--saga", "checkout"], "name sagas, or say which ones fit; not both"),
        (["cancel", "x", "--status", "stuck"], "--status and --since need --saga"),
        (["replay", "--stuck", "--saga", "chekout"], "shop:make has no saga 'chekout'; it has ch"),
        (["cancel", "--saga", "chekout"], "shop:make has no saga 'chekout'; it has checkout"),
        (["replay", "--stuck", "--since", "soon"], "--since 'soon' must be a number and a unit"),
        (["replay", "--stuck", "--canary", "-1"], "'--canary'"),
        (["replay", "stuck-0", "none"], "no saga has the id or key 'none'"),
    ],
)
def test_a_wrong_choice_is_told_and_changes_nothing(
    act: Callable[..., Ran], orders: Orders, arguments: list[str], sentence: str
) -> None:
    orders.stuck(1)
    ran = act(*arguments, "--reason", WHY, "--yes")
    assert sentence in ran.complaint
    assert ran.code == 2
    assert orders.audit() == []
