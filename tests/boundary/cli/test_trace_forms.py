"""`saga trace` in its other forms: times, a Mermaid diagram, and live; and what still stands."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.boundary.worlds.causal_trees import Node, Wood
from tests.boundary.worlds.command_line import COMMAND, HERE, Orders, Ran

#: What of Mermaid's grammar a sequence diagram of ours uses; no line may be anything else.
_TEXT = r"(?:[^#;<>{}:%\n]|#\d+;)+"
_LINES = re.compile(
    rf"sequenceDiagram|    participant p\d+ as {_TEXT}"
    rf"|    p\d+(?:->>|-->>|--x|--\)|-\))p\d+: {_TEXT}|    Note over p\d+: {_TEXT}"
)


def test_mermaid_takes_every_line(orders: Orders, call: Callable[..., Ran]) -> None:
    orders.place("O-1")
    stuck = orders.place("O-2", cents=13)
    refused = orders.place("O-3", cents=5000)
    orders.handle()
    for id in (stuck, refused):
        ran = call("trace", str(id), "--mermaid")
        assert (ran.code, ran.err) == (0, "")
        lines = ran.out.splitlines()
        assert lines[0] == "sequenceDiagram"
        assert [line for line in lines if not _LINES.fullmatch(line)] == []
    assert "--xp" in call("trace", str(stuck), "--mermaid").out
    assert "rejected#58; over the limit" in ran.out


def test_a_diagram_that_nobody_could_read_says_what_it_leaves_out(
    orders: Orders, call: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boundary.rendering.mermaid.MAX_ARROWS", 3)
    id = orders.place("O-1")
    orders.handle()
    out = call("trace", str(id), "--mermaid").out
    assert out.count(">>p") == 3
    assert "the rest is left out" in out


def test_times_say_what_each_waited_for(orders: Orders, call: Callable[..., Ran]) -> None:
    id = orders.place("O-1")
    orders.handle()
    out = call("trace", str(id), "--times").out
    assert re.search(
        r"stock\.reserve → stock ✓ queue \d+ m?s, batch \d+ m?s, handler \d+ m?s\n", out
    )
    node = call("trace", str(id), "--json").document["messages"][0]["children"][0]
    assert node["kind"] == "stock.reserve"
    waits = node["deliveries"][0]["waits"]
    assert list(waits) == ["due", "outbox", "queue", "batch", "handler"]
    assert waits["handler"] == node["deliveries"][0]["took"] >= 0


def test_follow_tells_what_happened_and_ends_with_the_saga(
    orders: Orders, call: Callable[..., Ran]
) -> None:
    id = orders.place("O-1")
    orders.handle()
    ran = call("trace", str(id), "--follow")
    assert ran.code == 0
    assert "payments.charge → payments ✓" in ran.out
    lines = [json.loads(line) for line in call("trace", str(id), "-f", "--json").out.splitlines()]
    assert {line["state"] for line in lines} == {"done"}
    assert len(lines) == len(ran.out.splitlines())


def test_follow_tells_what_happens_while_it_looks(
    orders: Orders, environment: dict[str, str]
) -> None:
    id = orders.place("O-1")
    with subprocess.Popen(
        [COMMAND, "trace", str(id), "--follow", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE,
        env=environment | {"PYTHONUNBUFFERED": "1", "PATH": os.environ["PATH"]},
    ) as following:
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        second = json.loads(following.stdout.readline())
        assert (first["kind"], second["state"]) == ("saga.started", "pending")
        orders.handle()
        rest = [json.loads(line) for line in following.stdout]
    assert following.returncode == 0
    assert (rest[0]["kind"], rest[0]["state"]) == ("stock.reserve", "done")
    assert "payments.charge" in {line["kind"] for line in rest}


@pytest.mark.parametrize("more", [["--json"], ["--follow"], ["--times"]])
def test_forms_that_exclude_each_other(call: Callable[..., Ran], more: list[str]) -> None:
    ran = call("trace", "x", "--mermaid", *more)
    assert ran.code == 2
    assert "leave --json, --times and --follow out" in ran.complaint


def test_what_is_undone_and_what_still_stands_is_told(
    runtime: Any, outside: Any, call: Callable[..., Ran]
) -> None:
    wood = Wood(runtime, outside)
    id = wood.plant(Node(name="trunk", branches=(Node(name="leaf", context="dogwood"),)), fell=True)
    wood.settle()
    drawn = call("trace", str(id)).out
    assert "↩ undo ash.plant → ash ✓" in drawn
    assert re.search(r"undo dogwood.branched → dogwood ✓ .* stands: it is written in stone", drawn)
    shown = call("show", str(id)).out
    assert "STILL STANDING" in shown
    [effect] = call("show", str(id), "--json").document["standing"]
    assert (effect["consumer"], effect["kind"]) == ("dogwood", "dogwood.branched")
    assert effect["why"] == "it is written in stone"
