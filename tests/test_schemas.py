"""Sessions of killed processes do not keep a test's schema from being dropped."""

import subprocess
import sys
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from boundary.migration import migrate
from boundary.settings import Settings
from tests.conftest import connect
from tests.schemas import drop_schema, make_schema

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


#: Tables with their columns, indexes, constraints and triggers, and functions, without their names.
_SHAPE = """
SELECT 'column', table_name::text, concat_ws(' ', column_name, data_type, is_nullable, column_default)
FROM information_schema.columns WHERE table_schema = %(name)s
UNION ALL SELECT 'index', tablename, indexdef FROM pg_indexes WHERE schemaname = %(name)s
UNION ALL SELECT 'constraint', conrelid::regclass::text, pg_get_constraintdef(oid)
FROM pg_constraint WHERE connamespace = to_regnamespace(%(name)s)
UNION ALL SELECT 'trigger', tgrelid::regclass::text, pg_get_triggerdef(t.oid)
FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid
WHERE c.relnamespace = to_regnamespace(%(name)s) AND NOT tgisinternal
UNION ALL SELECT 'function', proname, pg_get_functiondef(oid)
FROM pg_proc WHERE pronamespace = to_regnamespace(%(name)s)
ORDER BY 1, 2, 3
"""


def test_a_schema_is_what_the_migrations_make(
    settings: Settings, owner: Engine, outside: psycopg.Connection[Any]
) -> None:
    """Also where it was made by doing again what they did in another."""

    def shape(name: str) -> list[Any]:
        rows = outside.execute(_SHAPE, {"name": name}).fetchall()
        revision = outside.execute(
            f"SELECT version_num FROM {name}.saga_alembic_version"
        ).fetchall()
        return [tuple(each.replace(name, "") for each in row) for row in [*rows, *revision]]

    again, migrated = (f"saga_test_{uuid4().hex[:12]}" for _ in range(2))
    try:
        make_schema(owner, again)  # the test's own came first
        migrate(owner, migrated)
        assert shape(again) == shape(migrated)
        assert len(shape(again)) > 100
    finally:
        with owner.begin() as connection:
            drop_schema(connection, again)
            drop_schema(connection, migrated)


def test_who_lives_is_waited_for_and_told_of(
    reader: "subprocess.Popen[str]", owner: Engine, settings: Settings
) -> None:
    with owner.connect() as connection, pytest.raises(OperationalError, match="lock timeout"):
        drop_schema(connection, settings.db_schema, lock_timeout="100ms")
    assert reader.poll() is None
