"""`saga list`, `show` and `trace`: what stands in the tables, as text and as JSON."""

import re
from collections.abc import Callable
from io import StringIO

import pytest
from rich.console import Console
from sqlalchemy import Engine, text

from boundary.operations import show_saga
from boundary.rendering import render_trace
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from internals.store.trace import trace
from tests.boundary.worlds import shop
from tests.boundary.worlds.command_line import Orders, Ran

pytestmark = pytest.mark.usefixtures("no_server_is_started")


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
