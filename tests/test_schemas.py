"""Sessions of killed processes do not keep a test's schema from being dropped."""

import subprocess
import sys
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from boundary.settings import Settings
from tests.conftest import connect
from tests.schemas import drop_schema

#: Reads a table, and then is long in a statement, during which Postgres does not look at its client.
_PROGRAM = """
import os, socket, sys, psycopg
name = f"saga test {socket.gethostname()} {os.getpid()}"
with psycopg.connect(sys.argv[1], application_name=name) as session:
    session.execute(f"SELECT count(*) FROM {sys.argv[2]}.inbox")
    print("reads", flush=True)
    session.execute("SELECT pg_sleep(600)")
"""


@pytest.fixture
def reader(settings: Settings) -> Any:
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value().replace("+psycopg", "")
    started = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, url, settings.db_schema],
        stdout=subprocess.PIPE,
        text=True,
    )
    with started:
        assert started.stdout is not None
        assert started.stdout.readline() == "reads\n"
        yield started
        started.kill()


def _is_in_its_statement(outside: psycopg.Connection[Any], pid: int) -> bool:
    asked = (
        "SELECT FROM pg_stat_activity WHERE application_name LIKE %s AND query LIKE '%%pg_sleep%%'"
    )
    return outside.execute(asked, [f"saga test % {pid}"]).fetchone() is not None


def test_what_a_killed_process_still_reads_is_dropped(
    reader: "subprocess.Popen[str]", owner: Engine, settings: Settings, eventually: Any
) -> None:
    with connect(settings) as outside:
        eventually(lambda: _is_in_its_statement(outside, reader.pid))
        reader.kill()
        reader.wait()
        with owner.begin() as connection:
            drop_schema(connection, settings.db_schema)
        found = outside.execute("SELECT to_regnamespace(%s)", [settings.db_schema]).fetchone()
        assert found == (None,)


def test_who_lives_is_waited_for_and_told_of(
    reader: "subprocess.Popen[str]", owner: Engine, settings: Settings
) -> None:
    with owner.connect() as connection, pytest.raises(OperationalError, match="lock timeout"):
        drop_schema(connection, settings.db_schema, lock_timeout="100ms")
    assert reader.poll() is None
