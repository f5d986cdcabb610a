"""The demo, as a user runs it: a report in which everything holds, one sentence for bad input,
and nothing left running when it is interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from boundary.settings import Settings
from tests.conftest import ROOT, worker_environment
from tests.schemas import drop_schema

KEYS = {
    "trips", "completed", "compensated", "stuck", "unfinished", "rejections", "kills", "seconds",
    "sagas_per_second", "checks",
}  # fmt: skip


@pytest.fixture
def environment(empty_settings: Settings, owner: Engine) -> Iterator[dict[str, str]]:
    yield os.environ | worker_environment(empty_settings)
    with owner.begin() as connection:
        for suffix in ("demo", "demo_travel"):
            drop_schema(connection, f"{empty_settings.db_schema}_{suffix}")


def start(environment: dict[str, str], *options: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", "from boundary.cli import main; main()", "demo", *options],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_trips_are_booked_or_undone_while_workers_die(environment: dict[str, str]) -> None:
    demo = start(environment, "--trips", "150", "--kill-every", "1", "--flush-every", "1", "--json")
    out, err = demo.communicate(timeout=110)
    assert demo.returncode == 0, err
    report = json.loads(out)
    assert set(report) >= KEYS
    assert report["completed"] + report["compensated"] == report["trips"] == 150
    assert report["stuck"] == report["unfinished"] == 0
    assert sum(report["rejections"].values()) == report["compensated"] > 0
    assert report["kills"] >= 1
    assert report["flushes"] >= 1
    assert all(report["checks"].values())


def test_the_summary_is_for_a_person(environment: dict[str, str]) -> None:
    demo = start(environment, "--trips", "40", "--kill-every", "0")
    out, err = demo.communicate(timeout=110)
    assert demo.returncode == 0, err
    for words in ("Completed", "Compensated", "Checked in the tables", "✓ money conserved"):
        assert words in out
    assert "A trip that was completed\nbook_trip TRIP-" in out
    assert "flights.reserve → flights ✓" in out
    assert "SAGA_SCHEMA=" in out


def test_a_malformed_file_gets_one_sentence_and_nothing_is_started(
    environment: dict[str, str], tmp_path: Path, outside: psycopg.Connection[Any]
) -> None:
    day = tmp_path / "day.csv"
    day.write_text("year,month\n2013,2\n")
    demo = start(environment, "--flights", str(day))
    out, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert str(day) in err
    made = outside.execute(
        "SELECT count(*) FROM pg_namespace WHERE nspname LIKE %s",
        [f"{environment['SAGA_SCHEMA']}_demo%"],
    ).fetchone()
    assert made == (0,)


@pytest.mark.parametrize("option", [("--trips", "0"), ("--workers", "0"), ("--kill-every", "-1")])
def test_a_number_that_makes_no_sense_gets_one_sentence(
    environment: dict[str, str], option: tuple[str, str]
) -> None:
    demo = start(environment, *option)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 2
    assert option[0] in err


def test_ctrl_c_stops_what_was_started(
    environment: dict[str, str], eventually: Callable[..., Any]
) -> None:
    demo = start(environment, "--trips", "2000", "--kill-every", "0")
    workers = eventually(lambda: children_of(demo.pid), 60, "worker processes")
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert err.endswith("Interrupted; all that was started is stopped.\n")
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def children_of(pid: int) -> list[int]:
    """The process's children, once there are any that run `dramatiq`."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in children if b"dramatiq" in _command(child)]


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
