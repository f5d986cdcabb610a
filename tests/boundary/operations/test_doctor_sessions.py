"""What doctor finds in the database of the host: addresses, errors, roles and connections."""

from collections.abc import Callable

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Engine, MetaData, String, Table, create_engine, text

from boundary import Runtime
from boundary.operations.doctor import Finding, Verdict, Words, database_problem, shown_url
from boundary.operations.doctor.sessions import check_role


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@h:1/x?password=secret", "postgresql://me:***@h:1/x"),
        ("postgresql://me@h/x", "postgresql://me@h/x"),
        ("postgresql://h/x", "postgresql://h/x"),
        ("postgresql://me:se%40cret@[::1]:5/x", "postgresql://me:***@[::1]:5/x"),
        ("redis://:secret@h:1/0?ssl=1", "redis://:***@h:1/0"),
        ("unix://me:secret@/run/redis.sock?db=1", "unix://me:***@/run/redis.sock"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    ("message", "point"),
    [
        (
            'connection failed: connection to server at "::1", port 5 failed: FATAL:  no room.\n',
            "no room",
        ),
        (
            'connection failed: connection to server at "127.0.0.1", port 1 failed: Connection '
            "refused\n\tIs the server running on that host and accepting TCP/IP connections?\n"
            "Multiple connection attempts failed. All failures were:\n- host: 'localhost', port: 1",
            "Connection refused",
        ),
        ("", "ValueError"),
    ],
)
def test_a_database_error_is_brought_to_its_point(message: str, point: str) -> None:
    assert database_problem(ValueError(message)) == point


def test_a_host_that_does_not_exist_is_named() -> None:
    engine = create_engine("postgresql+psycopg://me:hidden@nobody.invalid/x")
    with pytest.raises(Exception, match=r"nobody\.invalid") as raised:
        engine.connect()
    assert database_problem(raised.value).startswith("failed to resolve host 'nobody.invalid'")


def test_the_user_s_own_tables_are_apart_from_the_framework_s(
    system: Runtime, findings: Callable[..., dict[str, Finding]]
) -> None:
    mine = MetaData()
    Table("orders", mine, Column("number", String, primary_key=True))
    schema = system.settings.db_schema
    owner = create_engine(system.settings.database_url.get_secret_value())  # type: ignore[union-attr]
    plain = Runtime(settings=system.settings, engine=owner)
    with owner.begin() as connection:
        compared = compare_metadata(MigrationContext.configure(connection), mine)
    assert not [found for found in compared if found[0] == "remove_table"]
    assert findings(of=plain, application=False)["search path"].verdict is Verdict.FINE
    with owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"SET search_path = {schema}"))
        found = next(iter(check_role(connection, schema, 10, Words())))
    owner.dispose()
    assert found.verdict is Verdict.WRONG
    assert "your own tables are made in it" in found.found


@pytest.mark.parametrize(
    ("setting", "value", "check"),
    [
        ("default_transaction_read_only", "on", "read only"),
        ("datestyle", "'SQL, DMY'", "date style"),
        ("client_encoding", "LATIN1", "encoding"),
    ],
)
def test_settings_of_a_role_that_break_something_are_named(
    engine: Engine, schema: str, setting: str, value: str, check: str
) -> None:
    with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"SET {setting} = {value}"))
        found = {f.check: f for f in check_role(connection, schema, 10, Words())}
        connection.invalidate()
    assert found[check].verdict is not Verdict.FINE


def test_too_few_connections_are_told_of(engine: Engine, schema: str) -> None:
    with engine.connect() as connection:
        few = {f.check: f for f in check_role(connection, schema, 10_000, Words())}
        enough = {f.check: f for f in check_role(connection, schema, 1, Words())}
    assert few["connections"].verdict is Verdict.NOTE
    assert enough["connections"].verdict is Verdict.FINE
