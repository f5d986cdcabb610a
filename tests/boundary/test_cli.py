"""The `saga` command: what it prints, how it ends, and every sentence that it complains with."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import shop
from counter import COMMAND, HERE, NOWHERE, Orders, Ran
from rich.console import Console
from sqlalchemy import Engine, text

from boundary import Settings
from boundary.operations import show_saga
from boundary.operations.queries.time_format import duration
from boundary.rendering import render_trace, trace_json
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.delivery import DeliveryOutcome, DeliveryState
from internals.store.trace import Node, Trace, TracedAct, TracedDelivery, trace
from saga.envelope import Category

pytestmark = pytest.mark.usefixtures("no_server_is_started")


# --- from nothing to a finished saga, by the real command


def test_a_new_user_migrates_starts_works_and_looks(
    saga: Callable[..., Ran],
    environment: dict[str, str],
    tmp_path: Path,
    eventually: Callable[..., Any],
) -> None:
    missing = saga("list")
    assert missing.code == 1
    assert missing.complaint.endswith("run `saga migrate`")
    assert environment["SAGA_SCHEMA"] in missing.complaint

    for _ in range(2):
        migrated = saga("migrate")
        assert (migrated.code, migrated.err) == (0, "")
        assert "is up to date" in migrated.out

    file = tmp_path / "order.json"
    file.write_text('{"number": "A-1"}')
    started = saga("--app", "shop:make", "start", "checkout", "--data", f"@{file}")
    assert (started.code, started.err) == (0, "")
    id = started.out.strip()
    again = saga("start", "checkout", "--data", "-", stdin=file.read_text(), SAGA_APP="shop:make")
    assert again.out.strip() == id

    with working(environment, eventually):
        eventually(lambda: "completed" in saga("list").out)
    shown = saga("show", "checkout:A-1", "--json").document
    assert shown["id"] == id
    assert shown["status"] == "completed"
    assert "stock.reserve → stock ✓" in saga("trace", id).out


class working:
    """`saga worker`, until the block ends; it must then stop as it is asked to."""

    def __init__(
        self, environment: dict[str, str], eventually: Callable[..., Any], *arguments: str
    ) -> None:
        self._eventually = eventually
        command = [COMMAND, "--app", "shop:make", "worker", "--processes", "1", "--threads", "2"]
        self._process = subprocess.Popen(
            [*command, *arguments],
            cwd=HERE,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        try:
            assert self._process.poll() is None
            self._process.terminate()  # this process alone: it must tell the others
            assert self._process.wait(timeout=30) == 0
            self._eventually(self._all_gone, what="the end of all its processes")
        finally:
            if not self._all_gone():
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()

    def _all_gone(self) -> bool:
        try:
            os.killpg(self._process.pid, 0)
        except ProcessLookupError:
            return True
        return False


def test_the_worker_hands_dramatiqs_options_on_and_can_spawn(
    environment: dict[str, str], orders: Orders, eventually: Callable[..., Any], outside: Any
) -> None:
    orders.place("A-1")
    finished = "SELECT count(*) FROM saga WHERE status = 'completed'"
    with working(environment, eventually, "--use-spawn"):
        eventually(lambda: outside.execute(finished).fetchone() == (1,))


def test_subscribe_records_what_the_app_reacts_to(call: Callable[..., Ran], engine: Engine) -> None:
    assert call("--app", "shop:make", "subscribe").out == "2 kinds of events recorded\n"
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT kind, consumer FROM subscription ORDER BY 1")).all()
    assert rows == [("shop.closed", "packing"), ("stock.reserved", "packing")]


def test_a_reader_that_has_had_enough_is_no_error(
    saga: Callable[..., Ran], environment: dict[str, str], orders: Orders
) -> None:
    orders.place_all()
    ran = subprocess.run(
        ["/bin/sh", "-c", f"'{COMMAND}' list --json | exec true"],
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE,
        env=environment,
    )
    assert ran.stderr == ""


# --- reading


def test_list_shows_the_newest_first_and_counts_all(
    call: Callable[..., Ran], orders: Orders
) -> None:
    orders.place_all()
    ran = call("list")
    assert (ran.code, ran.err) == (0, "")
    heading, *lines, total = ran.out.splitlines()
    assert heading.split() == ["STATUS", "SAGA", "checkout", "STARTED", "TOOK", "REASON"]
    assert [line.split()[:2] for line in lines] == [
        ["running", "waiting"],
        ["stuck", "stuck"],
        ["compensated", "undone"],
        ["completed", "done"],
    ]
    assert "payment: over the limit" in ran.out
    assert total == "in all: 1 running · 1 stuck · 1 completed · 1 compensated"
    assert call("list", "--status", "compensating").out.startswith("no saga fits\n")


def test_list_as_json_is_an_array(call: Callable[..., Ran], orders: Orders) -> None:
    ids = orders.place_all()
    document = call("list", "--json").document
    assert [item["key"] for item in document] == ["waiting", "stuck", "undone", "done"]
    undone = document[2]
    assert set(undone) == {
        *("id", "name", "version", "key", "status", "direction", "reason", "consumed"),
        *("started_at", "updated_at", "finished_at", "seconds"),
    }
    assert undone["id"] == str(ids["undone"])
    assert (undone["name"], undone["version"], undone["direction"]) == ("checkout", 1, "backward")
    assert undone["reason"] == "step payment: over the limit"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", undone["started_at"])
    assert undone["seconds"] > 0
    assert document[0]["finished_at"] is None


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        (["--status", "stuck"], ["stuck"]),
        (["--stuck"], ["stuck"]),
        (["--name", "checkout", "--limit", "2"], ["waiting", "stuck"]),
        (["--name", "other"], []),
        (["--key", "un"], ["undone"]),
        (["--key", "%"], []),
        (["--since", "1h"], ["waiting", "stuck", "undone"]),
        (["--since", "2d", "--status", "completed"], ["done"]),
    ],
)
def test_list_shows_what_is_asked_for(
    call: Callable[..., Ran], orders: Orders, engine: Engine, options: list[str], keys: list[str]
) -> None:
    orders.place_all()
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE saga SET started_at = now() - interval '1 day' WHERE key = 'done'")
        )
    assert [item["key"] for item in call("list", "--json", *options).document] == keys


def test_show_tells_a_stuck_saga_and_why(call: Callable[..., Ran], orders: Orders) -> None:
    ids = orders.place_all()
    for reference in ("stuck", "checkout:stuck", str(ids["stuck"])):
        ran = call("show", reference)
        assert ran.code == 0
        assert "stuck, going forward" in ran.out
    words = " ".join(ran.out.split())
    assert "payments.charge is parked at payments after 2 attempts: RuntimeError: the bank" in words
    assert '"cents": 13' in ran.out


def test_show_as_json_has_the_steps_and_what_it_waits_for(
    call: Callable[..., Ran], orders: Orders
) -> None:
    orders.place_all()
    stuck = call("show", "stuck", "--json").document
    assert stuck["data"] == {"number": "stuck", "cents": 13, "gift": False}
    phases = [(step["name"], step["phase"]) for step in stuck["steps"]]
    assert phases == [
        *[("stock", "done"), ("note", "done"), ("payment", "commanded"), ("wrapping", "skipped")]
    ]
    [parked] = stuck["deliveries"]
    assert (parked["state"], parked["consumer"]) == ("parked", "payments")
    assert call("show", "done", "--json").document["waits_for"] is None


def test_show_orders_the_steps_as_the_apps_definition_does(
    call: Callable[..., Ran], orders: Orders
) -> None:
    orders.place_all()
    document = call("--app", "shop:make", "show", "stuck", "--json").document
    names = [step["name"] for step in document["steps"]]
    assert names == ["stock", "wrapping", "note", "payment"]


@pytest.mark.parametrize(
    ("handled", "sentence"),
    [
        ((), r"step stock: waits for packing.packed, asked of stock at ..:..:..; "
             r"stock.reserve is with stock since ..:..:.."),
        (("stock",), r"step stock: waits for packing.packed, asked of stock at ..:..:..; "
                     r"stock.reserved is with packing since ..:..:.."),
        (("stock", "packing", "saga.checkout"),
         r"step wrapping: waits for packing.wrap to be done, asked of packing at ..:..:..; "
         r"packing.wrap is with packing since ..:..:... "
         r"step note: waits for letters.note to be done, asked of letters at ..:..:..; "
         r"letters.note is with letters since ..:..:.."),
    ],
)  # fmt: skip
def test_what_a_saga_waits_for_is_one_sentence(
    call: Callable[..., Ran], orders: Orders, handled: tuple[str, ...], sentence: str
) -> None:
    orders.place("A-1", gift=True)
    for consumer in handled:
        orders.handle(consumer)
    assert re.fullmatch(sentence, call("show", "A-1", "--json").document["waits_for"])


def test_a_compensation_that_is_awaited_is_called_one(
    call: Callable[..., Ran], orders: Orders
) -> None:
    orders.place("A-1", cents=5000)
    for consumer in ("stock", "packing", "saga.checkout", "letters", "saga.checkout", "payments"):
        orders.handle(consumer)
    orders.handle("saga.checkout")
    document = call("show", "A-1", "--json").document
    assert document["status"] == "compensating"
    assert re.match(
        r"step stock: waits for its compensation stock\.release, asked of stock at ..:..:..; "
        r"stock\.release is with stock since",
        document["waits_for"],
    )


def test_an_outcome_that_nothing_can_bring_is_told(
    call: Callable[..., Ran], orders: Orders, engine: Engine
) -> None:
    orders.place("A-1")
    orders.handle("stock")
    with engine.begin() as connection:  # as if nobody had been subscribed when it was sent
        connection.execute(text("DELETE FROM inbox WHERE consumer = 'packing'"))
    waits_for = call("show", "A-1", "--json").document["waits_for"]
    assert "nothing that is under way can bring it" in waits_for


def test_a_delivery_that_is_tried_again_says_when(
    call: Callable[..., Ran], orders: Orders, engine: Engine
) -> None:
    orders.place("A-1")
    with engine.begin() as connection:
        connection.execute(
            text(
                "UPDATE inbox SET attempts = 2, last_error = 'OSError: no paper',"
                " due_at = now() + interval '1 minute' WHERE state = 'pending'"
            )
        )
    waits_for = call("show", "A-1", "--json").document["waits_for"]
    assert re.search(
        r"stock\.reserve failed 2 times at stock and is tried again at .*: OSError: no paper",
        waits_for,
    )
    drawn = call("trace", "A-1").out
    assert re.search(r"stock … pending for .*, 2 attempts failed, next in .*: OSError", drawn)


def test_trace_draws_the_tree(call: Callable[..., Ran], orders: Orders) -> None:
    orders.place_all()
    drawn = re.sub(r"\d+(\.\d+)? m?s", "T", call("trace", "undone").out)
    assert drawn.splitlines() == [
        "checkout undone · compensated · T · step payment: over the limit",
        "└─ saga.started",
        "   └─ stock.reserve → stock ✓ T",
        "      └─ stock.reserved → packing ✓ T",
        "         └─ packing.packed → saga.checkout ✓ T",
        "            └─ letters.note → letters ✓ T",
        "               └─ saga.done → saga.checkout ✓ T",
        "                  └─ payments.charge → payments ✗ rejected: over the limit T",
        "                     └─ saga.rejected → saga.checkout ✓ T",
        "                        └─ ↩ stock.release → stock ✓ T",
        "                           └─ saga.done → saga.checkout ✓ T",
    ]


def test_trace_fits_a_terminal_of_80_columns(
    call: Callable[..., Ran], orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders.place_all()
    monkeypatch.setenv("COLUMNS", "80")
    drawn = call("trace", "stuck").out
    assert max(map(len, drawn.splitlines())) <= 80
    assert "payments ✗ parked after 2 attempts:" in drawn
    assert "│  RuntimeError: the bank speaks no known language" in drawn
    listed = call("list").out
    assert max(map(len, listed.splitlines())) <= 80
    assert "…" in listed


def test_trace_as_json_is_a_tree(call: Callable[..., Ran], orders: Orders) -> None:
    ids = orders.place_all()
    document = call("trace", "undone", "--json").document
    assert document["saga"]["id"] == str(ids["undone"])
    assert document["truncated"] is False
    [node] = document["messages"]
    kinds = []
    while True:
        kinds.append((node["kind"], node["step"], node["compensation"]))
        if not node["children"]:
            break
        [child] = node["children"]
        assert child["causation_id"] == node["id"]
        node = child
    assert kinds[0] == ("saga.started", None, False)
    assert kinds[1] == ("stock.reserve", "stock", False)
    assert kinds[-2] == ("stock.release", "stock", True)
    [delivery] = node["deliveries"]
    assert delivery["consumer"] == "saga.checkout"
    assert (delivery["state"], delivery["attempts"], delivery["rings"]) == ("done", 0, 0)


def test_trace_knows_messages_of_no_saga_and_of_one(
    call: Callable[..., Ran], orders: Orders
) -> None:
    with orders.runtime.engine.begin() as connection:
        closed = orders.runtime.publish(connection, shop.Closed(day="Sunday"))
    orders.handle()
    head, line = call("trace", str(closed)).out.splitlines()
    assert head.startswith(f"shop.closed {closed} · 1 message · ")
    assert line.startswith("└─ shop.closed → packing ✓ ")
    assert call("trace", str(closed), "--json").document["saga"] is None

    orders.place("A-1")
    orders.handle()
    root = call("trace", "A-1", "--json").document["messages"][0]["children"][0]
    drawn = call("trace", root["id"]).out
    assert drawn.startswith("checkout A-1 · completed")
    assert "\n└─ stock.reserve → stock ✓" in drawn


def test_a_key_that_two_sagas_have_is_asked_back(
    call: Callable[..., Ran], orders: Orders, engine: Engine
) -> None:
    orders.place("A-1")
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO saga (id, name, version, key, status, direction, data, steps, course,"
                " consumed) SELECT gen_random_uuid(), 'repair', 1, key, status, direction, data,"
                " steps, course, 0"
                " FROM saga"
            )
        )
    ran = call("show", "A-1")
    assert ran.code == 2
    assert ran.complaint == (
        "several sagas have the key 'A-1'; say which: checkout:A-1 or repair:A-1"
    )
    assert call("show", "repair:A-1", "--json").document["name"] == "repair"
    listed = call("list").out
    assert "repair:A-1" in listed
    assert "checkout:A-1" in listed


def test_a_key_may_hold_a_colon(call: Callable[..., Ran], orders: Orders) -> None:
    orders.place("shop:7")
    assert call("show", "shop:7", "--json").document["key"] == "shop:7"
    assert call("show", "checkout:shop:7", "--json").document["key"] == "shop:7"


def test_what_others_wrote_cannot_command_the_terminal(
    call: Callable[..., Ran], orders: Orders
) -> None:
    orders.place("\x1b[2Jgone")
    for command in (["list"], ["show", "\x1b[2Jgone"], ["trace", "\x1b[2Jgone"]):
        ran = call(*command)
        assert ran.code == 0
        assert "\x1b" not in ran.out


# --- drawing


def test_a_deep_chain_goes_straight_down_and_is_valid_json() -> None:
    found = a_chain(400)
    lines = str(render_trace(found)).splitlines()
    assert len(lines) == 401
    assert max(map(len, lines)) < 90
    assert lines[-1].lstrip().startswith("↳ ")
    node = json.loads(trace_json(found))["messages"][0]
    depth = 1
    while node["children"]:
        [node] = node["children"]
        depth += 1
    assert depth == 400
    assert trace_json(a_chain(5000)).count("]}") == 5001


def test_a_branch_in_the_deep_is_still_one() -> None:
    now = datetime.now(UTC)
    leaves = tuple(a_node(now, kind=f"leaf.number_{i}") for i in range(2))
    node = a_node(now, children=leaves)
    for _ in range(30):
        node = a_node(now, children=(node,))
    lines = str(render_trace(Trace((node,), at=now))).splitlines()
    assert [line.lstrip()[:3] for line in lines[-3:]] == ["↳ d", "├─ ", "└─ "]


def test_every_state_of_a_delivery_has_its_words() -> None:
    now = datetime.now(UTC)
    done = TracedDelivery("hotels", DeliveryState.DONE, 0, 0, None, now, now, 1)
    cases = {
        "hotels ✓ 0 ms": done,
        "hotels ✓ 0 ms after 1 attempt that failed": replace(done, attempts=1),
        "hotels ✓ 0 ms no effect: came late or twice": replace(
            done, outcome=DeliveryOutcome.STALE, last_error="stale"
        ),
        "hotels ✗ rejected: full 0 ms": replace(
            done, outcome=DeliveryOutcome.REJECTED, last_error="rejected: full"
        ),
        "hotels ✓ 0 ms (rung 2 more times)": replace(done, rings=2),
        "hotels ∅ revoked": (revoked := replace(done, state=DeliveryState.REVOKED)),
        "hotels ∅ revoked: its step was undone": replace(
            revoked, last_error="revoked: its step was undone"
        ),
        "hotels ∅ revoked backfill: no room; dropped: nobody came (rung 1 more time)": replace(
            revoked, last_error="no room;\ndropped: nobody came", backfill=True, rings=1
        ),
        "hotels ✗ parked: unexpected": replace(
            done, state=DeliveryState.PARKED, last_error="unexpected"
        ),
        "hotels ✓ 0 ms · parked retry by ann: a bed was bought": replace(
            done, acts=(TracedAct("parked retry", "ann", "a bed was\nbought"),)
        ),
        "hotels … pending for 0 ms": replace(done, state=DeliveryState.PENDING, done_at=None),
        "hotels … pending for 0 ms, next in 1 min": replace(
            done, state=DeliveryState.PENDING, done_at=None, due_at=now + timedelta(minutes=1)
        ),
    }
    for words, delivery in cases.items():
        node = a_node(now, deliveries=(delivery,))
        assert str(render_trace(Trace((node,), at=now))).endswith(f"└─ done.deed → {words}")
    nobody = str(render_trace(Trace((a_node(now),), at=now)))
    assert nobody.endswith("done.deed → nobody")
    cut = str(render_trace(Trace((a_node(now),), at=now, truncated=True)))
    assert cut.endswith("The rest is left out: it is too long to draw.")


def test_a_trace_is_plain_in_a_pipe_and_coloured_on_a_terminal(
    orders: Orders, schema: str, engine: Engine
) -> None:
    ids = orders.place_all()
    with engine.connect() as connection:
        unit = SqlAlchemyUnitOfWork(connection)
        drawn = render_trace(
            trace(unit, schema, ids["undone"]), show_saga(unit, schema, ids["undone"])
        )
    pipe = StringIO()
    Console(file=pipe, width=200).print(drawn)
    assert pipe.getvalue().rstrip("\n") == str(drawn)
    terminal = StringIO()
    Console(file=terminal, width=200, force_terminal=True, color_system="standard").print(drawn)
    assert "\x1b[35m↩ \x1b[0m" in terminal.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1, "0 ms"),
        (0.0004, "0 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.00 s"),
        (9.994, "9.99 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min"),
        (3599.6, "1 h"),
        (7380, "2 h 3 min"),
        (86400 * 3 + 3600, "3 d 1 h"),
    ],
)
def test_durations_have_the_digits_that_matter(seconds: float, words: str) -> None:
    assert duration(timedelta(seconds=seconds)) == words


# --- complaints: one sentence, the right exit code, no traceback, no password


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["frobnicate"], "No such command 'frobnicate'; see `saga --help`"),
        (["list", "--app", "x:y"], "--app goes before the command: saga --app module:attribute"),
        (["list", "--loud"], "No such option: --loud"),
        (["list", "--stuck", "--status", "running"], "--stuck and --status running contradict"),
        (["list", "--status", "lost"], "'lost' is not one of 'running', 'compensating', 'stuck'"),
        (["list", "--since", "soon"], "--since 'soon' must be a number and a unit: 30s, 15m, 2h"),
        (["list", "--limit", "0"], "'--limit'"),
        (["show"], "see `saga show --help`"),
        (["show", "nobody"], "no saga has the id or key 'nobody'; `saga list` shows those there"),
        (["trace", "checkout:nobody"], "no saga has the id or key 'checkout:nobody'"),
        (["trace", str(UUID(int=7))], f"no saga and no message has the id {UUID(int=7)}"),
        (["start", "checkout", "--data", "{}"], "`saga start` needs your application: saga --app"),
        (["worker"], "`saga worker` needs your application"),
        (["subscribe"], "`saga subscribe` needs your application"),
        (["--app", "shop", "list"], "--app 'shop' must be module:attribute, such as"),
        (["--app", "closed:x", "list"], "--app closed:x: there is no module 'closed' in"),
        (["--app", "shop.nothing:x", "list"], "there is no module 'shop.nothing'"),
        (["--app", "shop:nothing", "list"], "--app shop:nothing: module shop has no 'nothing'"),
        (["--app", "shop:number", "list"], "is of type int; give a Runtime, or a function"),
        (["--app", "shop:make_nothing", "list"], "is of type NoneType; give a Runtime"),
        (
            ["--app", "shop:make_trouble", "worker"],
            "failed when called: KeyError: 'no such shop' (",
        ),
        (["demo", "--trips", "0"], "'--trips'"),
        (["demo", "--kill-every", "-1"], "'--kill-every'"),
    ],
)
def test_a_wrong_call_gets_one_sentence(
    call: Callable[..., Ran], settings: Settings, arguments: list[str], sentence: str
) -> None:
    ran = call(*arguments)
    assert sentence in ran.complaint
    assert ran.code == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing", "--data", "{}"], "shop:make has no saga 'nothing'; it has checkout"),
        (["checkout", "--data", "{}", "--version", "9"], "no version 9 of checkout; it has 1"),
        (["checkout", "--data", '{"numb'], "--data is not JSON: EOF while parsing a string at"),
        (
            ["checkout", "--data", "[]"],
            "--data does not fit Order, the data of checkout: as a whol",
        ),
        (["checkout", "--data", '{"cents": 1}'], "data of checkout: number: Field required"),
        (
            ["checkout", "--data", "@nowhere.json"],
            "--data @nowhere.json: No such file or directory",
        ),
        (["checkout", "--data", "@."], "--data @.: Is a directory"),
        (["checkout"], "Missing option '--data'; see `saga start --help`"),
        (["checkout", "--data", '{"number": "A-1"}', "--key", ""], "a business key is a text of 1"),
        (["checkout", "--data", '{"number": "\\u0000"}'], "which Postgres refuses"),
        (["checkout", "--data", '{"number": "old", "cents": 2}'], "was started before with other"),
    ],
)
def test_a_start_that_cannot_be_is_told(
    call: Callable[..., Ran], orders: Orders, arguments: list[str], sentence: str
) -> None:
    orders.place("old")
    ran = call("--app", "shop:make", "start", *arguments)
    assert sentence in ran.complaint
    assert ran.code == 2
    assert len(call("list", "--json").document) == 1


def test_the_data_is_not_repeated_in_a_complaint(call: Callable[..., Ran]) -> None:
    data = '{"number": "A-1", "cents": "four-thousand"}'
    ran = call("--app", "shop:make", "start", "checkout", "--data", data)
    assert "cents: Input should be a valid integer" in ran.complaint
    assert "four-thousand" not in ran.complaint


def test_a_file_that_is_no_text_is_told(call: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "order").write_bytes(b"\xff\xfe")
    ran = call("--app", "shop:make", "start", "checkout", "--data", f"@{tmp_path / 'order'}")
    assert ran.complaint.endswith("it is not UTF-8 text")


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "import not_installed",
            "ModuleNotFoundError: No module named 'not_installed' ({}, line 1)",
        ),
        ("x = (", "SyntaxError: '(' was never closed ({}, line 1)"),
        ("\nraise SystemExit(3)", "SystemExit: 3 ({}, line 2)"),
        ("from saga import Step\nStep('No name', None)", "a step's name must be a lower-case word"),
        ("from boundary import Settings\nSettings(batch=0)", "SAGA_BATCH: Input should be greater"),
    ],
)
def test_an_app_that_cannot_be_imported_is_told(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str,
    sentence: str,
) -> None:  # fmt: skip
    name = f"broken_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = call("--app", f"{name}:runtime", "list")
    assert sentence.format(f"{name}.py") in ran.complaint
    assert ran.code == 2


@pytest.mark.parametrize(
    ("variable", "value", "code", "sentence"),
    [
        ("SAGA_DATABASE_URL", "mysql://agent:hidden@host/x", 2, "SAGA_DATABASE_URL: give a Postg"),
        (
            "SAGA_DATABASE_URL",
            "postgresql://agent:hidden@host:x/y",
            2,
            "SAGA_DATABASE_URL: the port",
        ),
        ("SAGA_DATABASE_URL", NOWHERE, 1, "Postgres at postgresql://agent:***@127.0.0.1:1/shop ca"),
        ("SAGA_REDIS_URL", "http://:hidden@host", 2, "SAGA_REDIS_URL: give a Redis URL: redis://"),
        ("SAGA_SCHEMA", 'x"; --', 2, "must be a lower-case identifier of at most 63 characters"),
        ("SAGA_BATCH", "none", 2, "SAGA_BATCH: Input should be a valid integer"),
        ("SAGA_SCHEMA", "not_migrated", 1, "run `saga migrate`"),
    ],
)
def test_wrong_settings_and_absent_servers_are_told(
    call: Callable[..., Ran], variable: str, value: str, code: int, sentence: str
) -> None:
    ran = call("list", **{variable: value})
    assert sentence in ran.complaint
    assert "hidden" not in ran.complaint
    assert ran.code == code


@pytest.mark.parametrize(
    "arguments",
    [
        ["migrate"],
        ["list"],
        ["show", "x"],
        ["trace", "x"],
        ["--app", "shop:make", "subscribe"],
        ["--app", "shop:make", "start", "checkout", "--data", '{"number": "A-1"}'],
    ],
)
def test_every_command_says_that_postgres_is_gone(
    call: Callable[..., Ran], arguments: list[str]
) -> None:
    ran = call(*arguments, SAGA_DATABASE_URL=NOWHERE)
    assert ran.complaint.endswith("Connection refused; see SAGA_DATABASE_URL")
    assert ran.code == 1


def test_a_start_on_a_schema_without_tables_says_so(call: Callable[..., Ran]) -> None:
    ran = call("--app", "shop:make", "start", "checkout", "--data", '{"number": "A-1"}')
    assert ran.complaint.endswith("run `saga migrate`")
    assert ran.code == 1


def test_a_saga_starts_though_redis_is_gone(saga: Callable[..., Ran], orders: Orders) -> None:
    gone = {"SAGA_REDIS_URL": "redis://:hidden@127.0.0.1:1/0", "SAGA_APP": "shop:make"}
    ran = saga("start", "checkout", "--data", '{"number": "A-1"}', **gone)
    assert ran.code == 0
    UUID(ran.out.strip())
    assert "workers find what is due by themselves" in ran.err
    assert "hidden" not in ran.err


def test_a_redis_url_that_is_none_is_told_before_anything_is_written(
    call: Callable[..., Ran], orders: Orders
) -> None:
    data = '{"number": "A-1"}'
    url = "redis://:hidden@127.0.0.1:port/0"
    ran = call("--app", "shop:make", "start", "checkout", "--data", data, SAGA_REDIS_URL=url)
    assert ran.complaint == "SAGA_REDIS_URL: the port of the URL must be a number from 1 to 65535"
    assert ran.code == 2
    assert call("list", "--json").document == []


def test_an_export_is_json_lines_of_one_saga_s_kind(
    call: Callable[..., Ran], orders: Orders
) -> None:
    orders.place("A-1")
    ran = call("export", "--jsonl", "--saga", "checkout", "--since", "1h")
    assert ran.code == 0
    types = {json.loads(line)["type"] for line in ran.out.splitlines()}
    assert types == {"saga", "message", "delivery"}
    assert call("export", "--saga", "none").out == ""
    assert call("export", "--since", "soon").code == 2


# --- the rest


def test_help_is_short_and_needs_no_server(call: Callable[..., Ran]) -> None:
    ran = call("--help", SAGA_DATABASE_URL=NOWHERE)
    assert ran.code == 0
    assert ran.out == call(SAGA_DATABASE_URL=NOWHERE).out
    commands = re.findall(r"^  (\w+)  ", ran.out.partition("Commands:")[2], re.MULTILINE)
    assert commands == [
        *(
            "migrate",
            "subscribe",
            "worker",
            "bridge",
            "start",
            "list",
            "show",
            "trace",
            "replay",
            "skip",
            "cancel",
            "signal",
            "parked",
            "backfill",
            "unsubscribe",
            "export",
            "doctor",
            "demo",
        )
    ]
    assert "..." not in ran.out.partition("Commands:")[2]
    for command in commands:
        assert call(command, "--help").code == 0
    assert "..." not in call("parked", "--help").out.partition("Commands:")[2]
    for group, parts in {
        "parked": ("list", "show", "retry", "drop"),
        "bridge": ("receive", "schema"),
    }.items():
        for part in parts:
            assert call(group, part, "--help").code == 0


def test_the_demo_hands_its_options_on(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    from examples.travel import demo

    given: list[demo.DemoOptions] = []

    def run_demo(options: demo.DemoOptions) -> int:
        given.append(options)
        return 1

    monkeypatch.setattr(demo, "run_demo", run_demo)
    assert call("demo").code == 1
    options = ["--flights", "day.csv", "--trips", "5", "--workers", "3", "--kill-every", "0.5"]
    call("demo", *options, "--flush-every", "7", "--seed", "9", "--json")
    assert given == [
        demo.DemoOptions(),
        demo.DemoOptions(
            flights=Path("day.csv"),
            trips=5,
            workers=3,
            kill_every=0.5,
            flush_every=7.0,
            seed=9,
            json=True,
        ),
    ]


def test_a_demo_that_is_not_installed_is_told(
    call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boundary.cli.commands.run._DEMO", "not_installed.travel.demo")
    ran = call("demo")
    assert ran.complaint.endswith("run `make demo` in a checkout")
    assert ran.code == 2


def test_importing_the_framework_loads_no_command_line() -> None:
    code = "import boundary, sys; print({'typer', 'rich', 'alembic'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def a_node(
    now: datetime,
    kind: str = "done.deed",
    children: tuple[Node, ...] = (),
    deliveries: tuple[TracedDelivery, ...] = (),
) -> Node:
    id = uuid4()
    return Node(id, kind, Category.EVENT, None, None, id, None, now, deliveries, children)


def a_chain(length: int) -> Trace:
    now = datetime.now(UTC)
    node = a_node(now)
    for _ in range(length - 1):
        node = a_node(now, children=(node,))
    return Trace((node,), at=now)
