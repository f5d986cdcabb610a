"""The `saga` command: what it prints, how it ends, and every sentence that it complains with."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tests.boundary.worlds.command_line import COMMAND, HERE, NOWHERE, Orders, Ran

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
        command = [
            str(COMMAND),
            "--app",
            "shop:make",
            "worker",
            "--processes",
            "1",
            "--threads",
            "2",
        ]
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
