"""``manage.py saga`` is the command line itself, on the project."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.boundary.django.senders import Query

PLACE = """
from django.db import transaction
from boundary.django import start
from ledger.sagas import KEEP, Text
with transaction.atomic():
    print(start(KEEP, Text(text="{text}")))
"""


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str


@pytest.fixture
def manage(clean: None, project_environment: dict[str, str], tmp_path: Path) -> Callable[..., Ran]:
    """Run a real `django-admin` in an empty folder."""

    def run(*arguments: str, **changes: str) -> Ran:
        done = subprocess.run(
            [sys.executable, "-m", "django", *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env=project_environment | changes,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def running(project_environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start a command and leave it running; it is stopped, as a deploy does, after the test."""
    with ExitStack() as started:

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            log = started.enter_context((tmp_path / f"{arguments[0]}.log").open("wb"))
            process = subprocess.Popen(
                [sys.executable, "-m", "django", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=tmp_path,
                env=project_environment,
            )

            def stop() -> None:
                process.terminate()
                code = process.wait(60)
                print((tmp_path / f"{arguments[0]}.log").read_text())  # noqa: T201
                assert code == 0

            started.callback(stop)
            return process

        yield start


def place(text: str) -> str:
    from django.db import transaction
    from ledger.sagas import KEEP, Text

    from boundary.django import start

    with transaction.atomic():
        return str(start(KEEP, Text(text=text)))


def handle() -> None:
    from boundary.django.testing import run_due

    run_due()


def test_it_reads_and_acts_on_the_project(manage: Any, outside: Query) -> None:
    place("bug")
    handle()
    listed = manage("saga", "list", "--json")
    [saga] = json.loads(listed.out)
    assert (listed.code, saga["key"], saga["status"]) == (0, "bug", "stuck")
    shown = manage("saga", "show", "keep:bug").out
    assert "saga replay keep:bug --reason WHY" in shown
    assert "a bug <b>in</b> the ledger" in manage("saga", "trace", "bug").out
    tried = manage("saga", "replay", "--saga", "keep", "--stuck", "--reason", "x", "--dry-run")
    assert "keep:bug would be replayed: stuck → running" in tried.out
    done = manage("saga", "replay", "bug", "--reason", "mended", "--actor", "ann")
    assert done.out.startswith("bug replayed: stuck → running; sent ledger.settle")
    assert outside("SELECT actor, act, reason FROM saga.audit") == [("ann", "replayed", "mended")]


def test_every_command_works(manage: Any, outside: Query) -> None:
    id = place("bug")
    handle()
    [(message,)] = outside("SELECT message_id FROM saga.inbox WHERE state = 'parked'")
    outside(
        "INSERT INTO saga.subscription (kind, consumer) VALUES ('ledger.kept', 'gone')"
        " RETURNING kind"
    )
    for command in (
        ("migrate",),
        ("subscribe",),
        ("parked", "list"),
        ("parked", "show", str(message), "--payload"),
        ("export",),
        ("skip", id, "settle", "--reason", "by hand", "--dry-run"),
        ("cancel", id, "--reason", "by hand", "--dry-run"),
        ("parked", "retry", str(message), "--reason", "again", "--dry-run"),
        ("start", "keep", "--data", '{"text": "by hand"}'),
        ("unsubscribe", "gone", "--reason", "it is", "--dry-run"),
        ("unsubscribe", "gone", "ledger.kept", "--reason", "it is"),
    ):
        ran = manage("saga", *command)
        assert (ran.code, ran.err) == (0, ""), command
        assert ran.out, command


def test_a_signal(manage: Any, outside: Query) -> None:
    from django.db import transaction
    from ledger.sagas import ASK, Text

    from boundary.django import start

    with transaction.atomic():
        id = start(ASK, Text(text="one"))
    ran = manage(
        *("saga", "signal", str(id), "desk.approved", "--data", '{"by": "ann"}', "--reason", "y")
    )
    assert (ran.code, ran.err) == (0, "")
    handle()
    assert outside("SELECT status FROM saga.saga") == [("completed",)]


def test_doctor_looks_at_the_projects_servers(manage: Any) -> None:
    found = json.loads(manage("saga", "doctor", "--json").out)["checks"]
    verdicts = {check["check"]: check["verdict"] for check in found}
    assert verdicts["schema"] == verdicts["redis"] == verdicts["versions"] == "fine"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("show", "nobody"), 2, "no saga has the id or key 'nobody'"),
        (("bogus",), 2, "No such command 'bogus'; see `manage.py saga --help`"),
        (("replay", "x"), 2, "Missing option '--reason'"),
        (("start", "nosaga", "--data", "{}"), 2, "has no saga 'nosaga'; it has ask, keep"),
    ],
)
def test_complaints_are_one_line(manage: Any, arguments: Any, code: int, said: str) -> None:
    ran = manage("saga", *arguments)
    assert (ran.code, ran.out) == (code, "")
    [line] = ran.err.splitlines()
    assert line.startswith("saga: ")
    assert said in line


def test_a_database_out_of_reach_is_told_in_one_line(manage: Any) -> None:
    url = "postgresql+psycopg://saga:hidden@127.0.0.1:1/x"
    for command in (("list",), ("migrate",), ("start", "keep", "--data", '{"text": "x"}')):
        ran = manage("saga", *command, DJT_DATABASE_URL=url)
        assert (ran.code, ran.out) == (1, "")
        [line] = ran.err.splitlines()
        assert line.startswith("saga: Postgres at postgresql://saga@127.0.0.1:1/")
        assert line.endswith("see DATABASES['default']")
        assert "hidden" not in line


def test_the_doctor_names_ways_out_that_django_has(manage: Any) -> None:
    url = "postgresql+psycopg://saga:hidden@127.0.0.1:1/x"
    remedies = {
        check["check"]: check["remedy"]
        for changes in ({"DJT_DATABASE_URL": url}, {"DJT_REDIS_URL": "redis://127.0.0.1:1/0"})
        for check in json.loads(manage("saga", "doctor", "--json", **changes).out)["checks"]
        if check["verdict"] == "wrong"
    }
    assert remedies["postgres"] == "see DATABASES['default']"
    assert remedies["redis"] == 'see SAGA["REDIS_URL"]'


def test_djangos_own_options_and_help_work(
    manage: Any, project_environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "more_settings.py").write_text(
        "from django_settings import *\nSAGA = {**SAGA, 'SCHEMA': 'elsewhere'}\n"
    )
    ran = manage("saga", "list", "--settings", "more_settings", "--pythonpath=deeper")
    assert (ran.code, ran.out) == (1, "")
    assert "the tables are not in schema 'elsewhere'" in ran.err
    assert "run `manage.py saga migrate`" in ran.err
    helped = manage("help", "saga")
    assert helped.code == 0
    assert "`manage.py saga --help` lists the commands" in " ".join(helped.out.split())
    assert "replay" in manage("saga", "--help").out


def test_the_worker_runs_beside_rundramatiq(
    manage: Any, running: Any, outside: Query, eventually: Callable[..., Any]
) -> None:
    from ledger.tasks import note

    running("saga", "worker", "--processes", "1", "--threads", "2")
    running("rundramatiq", "--processes", "1", "--threads", "1")
    place("one")
    note.send("by the host's actor")
    eventually(lambda: outside("SELECT status FROM saga.saga") == [("completed",)], 60)
    eventually(lambda: len(outside("SELECT text FROM ledger_entry")) == 2, 60)
    assert sorted(outside("SELECT text FROM ledger_entry")) == [("by the host's actor",), ("one",)]


def test_a_killed_worker_loses_nothing(
    manage: Any,
    running: Any,
    outside: Query,
    eventually: Callable[..., Any],
    project_environment: Any,
) -> None:
    for number in range(20):
        place(f"n{number}")
    process = subprocess.Popen(
        [sys.executable, "-m", "django", "saga", "worker", "--processes", "1"],
        env=project_environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        eventually(lambda: outside("SELECT 1 FROM ledger_entry"), 60)
    finally:
        import os
        import signal

        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    place("after it")  # and so for the next one, however much the first one did
    running("saga", "worker", "--processes", "1")
    eventually(lambda: outside("SELECT DISTINCT status FROM saga.saga") == [("completed",)], 60)
    assert outside("SELECT count(*) FROM ledger_entry") == [(21,)]
