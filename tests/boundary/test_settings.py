"""Settings: read from the environment, refused in words, and silent about passwords."""

import ast
import inspect
import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import ValidationError
from sqlalchemy import make_url, text

from boundary import Settings
from boundary.operations.doctor import shown_url
from boundary.server_urls import psycopg_url
from internals.database.engines import make_engine

VARIABLES = {
    "SAGA_DATABASE_URL": "postgresql://ann:secret@db:5432/trips",
    "SAGA_REDIS_URL": "redis://:secret@cache:6379/1",
    "SAGA_SCHEMA": "my_sagas",
    "SAGA_NAMESPACE": "mine",
    "SAGA_EMBEDDED_DIR": "/somewhere",
    "SAGA_BATCH": "8",
    "SAGA_BUDGET": "0.5",
    "SAGA_HANDLER_LIMIT": "7",
    "SAGA_BATCH_LIMIT": "1.5",
    "SAGA_GRACE": "2",
    "SAGA_MAX_PAYLOAD": "1000",
    "SAGA_MAX_DEPTH": "50",
    "SAGA_POOL_SIZE": "3",
    "SAGA_COLOCATE": "no",
    "SAGA_FROZEN_AFTER": "30",
    "SAGA_PREPARED_STATEMENTS": "off",
    "SAGA_SUSPECT_STARTS": "4",
    "SAGA_YIELDS": "5",
    "SAGA_DATABASES": '{"hotels": "postgres://ann:secret@inn/hotels"}',
}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.database_url.get_secret_value() == (
        "postgresql+psycopg://ann:secret@db:5432/trips"
    )
    assert settings.redis_url.get_secret_value() == "redis://:secret@cache:6379/1"
    own = {name: url.get_secret_value() for name, url in settings.databases.items()}
    assert own == {"hotels": "postgresql+psycopg://ann:secret@inn/hotels"}
    assert settings.model_dump(exclude={"database_url", "redis_url", "databases"}) == {
        "db_schema": "my_sagas",
        "namespace": "mine",
        "embedded_dir": Path("/somewhere"),
        "batch": 8,
        "max_depth": 50,
        "suspect_starts": 4,
        "yields": 5,
        "budget": 0.5,
        "handler_limit": 7.0,
        "batch_limit": 1.5,
        "grace": 2.0,
        "max_payload": 1000,
        "pool_size": 3,
        "colocate": False,
        "frozen_after": 30.0,
        "prepared_statements": False,
    }


def test_without_any_the_servers_are_embedded() -> None:
    settings = Settings()
    assert (settings.database_url, settings.redis_url) == (None, None)
    assert (settings.db_schema, settings.namespace) == ("saga", "saga")


def test_what_is_given_in_code_goes_before_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAGA_SCHEMA", "theirs")
    assert Settings(db_schema="ours").db_schema == "ours"


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_any_usual_postgres_url_means_psycopg(scheme: str) -> None:
    url = Settings(database_url=f"{scheme}://ann:p%40ss@db/trips?sslmode=require").database_url
    assert url is not None
    assert url.get_secret_value() == "postgresql+psycopg://ann:p%40ss@db/trips?sslmode=require"


@pytest.mark.parametrize(
    "url", ["mysql://ann:secret@db/trips", "postgresql:secret", "secret", "", "sqlite://secret"]
)
def test_another_database_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(ValidationError, match="give a Postgres URL") as raised:
        Settings(database_url=url)
    assert "secret" not in str(raised.value)
    assert "secret" not in repr(raised.value)


@pytest.mark.parametrize("url", ["http://:secret@cache", "cache:6379/secret", "redis:secret"])
def test_another_cache_is_refused_without_telling_the_password(url: str) -> None:
    with pytest.raises(ValidationError, match="give a Redis URL") as raised:
        Settings(redis_url=url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["redis://cache", "rediss://:p@cache:1/0", "unix:///run/redis"])
def test_redis_urls_are_kept_as_they_are(url: str) -> None:
    given = Settings(redis_url=url).redis_url
    assert given is not None
    assert given.get_secret_value() == url


@pytest.mark.parametrize("field", ["database_url", "redis_url"])
def test_a_port_that_is_no_number_is_refused(field: str) -> None:
    scheme = "postgresql" if field == "database_url" else "redis"
    given: dict[str, Any] = {field: f"{scheme}://ann:secret@db:port/0"}
    with pytest.raises(ValidationError, match="the port of the URL must be a number") as raised:
        Settings(**given)
    assert "secret" not in str(raised.value)


def test_passwords_are_not_printed() -> None:
    settings = Settings(
        database_url="postgresql://ann:secret@db/trips", redis_url="redis://:secret@cache"
    )
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "secret" not in shown


@pytest.mark.parametrize(
    ("field", "value"),
    [("batch", 0), ("budget", 0), ("grace", 0), ("max_payload", 0), ("pool_size", 0)],
)
def test_numbers_that_cannot_work_are_refused(field: str, value: int) -> None:
    given: dict[str, Any] = {field: value}
    with pytest.raises(ValidationError, match=field):
        Settings(**given)


DURATIONS = ("budget", "handler_limit", "batch_limit", "grace", "frozen_after")


@pytest.mark.parametrize("field", DURATIONS)
@pytest.mark.parametrize(
    "value", [90, 90.0, timedelta(minutes=1.5), "90", "90.0", "PT90S", "PT1M30S", "00:01:30"]
)
def test_a_duration_is_a_timedelta_or_seconds(field: str, value: Any) -> None:
    kept = getattr(Settings(**{field: value}), field)
    assert kept == 90.0
    assert type(kept) is float


@pytest.mark.parametrize("field", DURATIONS)
@pytest.mark.parametrize(
    "value", [timedelta(0), timedelta(seconds=-1), "PT0S", "soon", "", "nan", "inf", None, [1]]
)
def test_a_duration_that_cannot_work_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        Settings(**{field: value})


def test_a_duration_comes_from_the_environment_in_seconds_or_in_iso_8601(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SAGA_GRACE", "2.5")
    monkeypatch.setenv("SAGA_HANDLER_LIMIT", "PT2M")
    settings = Settings()
    assert (settings.grace, settings.handler_limit) == (2.5, 120.0)
    monkeypatch.setenv("SAGA_GRACE", "soon")
    with pytest.raises(ValidationError, match=r"give seconds, such as 2\.5, or a duration such as"):
        Settings()


def test_its_constructor_names_every_setting() -> None:
    """What a type checker knows of it is written by hand."""
    tree = ast.parse(inspect.getsource(Settings))
    [init] = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    assert [argument.arg for argument in init.args.kwonlyargs] == list(Settings.model_fields)


def test_every_setting_is_documented() -> None:
    documented = re.findall(r"^ {4}(\w+): ", inspect.getdoc(Settings) or "", re.MULTILINE)
    assert [name for name in documented if name in Settings.model_fields] == list(
        Settings.model_fields
    )


def test_they_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().batch = 3  # type: ignore[misc]


def test_several_hosts_of_postgres_are_taken_as_libpq_writes_them() -> None:
    asked = "target_session_attrs=read-write"
    url = psycopg_url(f"postgresql://ann:p%40ss@one:5433,two,[::1]:5434/trips?{asked}")
    made = make_url(url)
    assert made.query["host"] == ("one:5433", "two:5432", "[::1]:5434")
    assert made.query["target_session_attrs"] == "read-write"
    assert (made.username, made.password, made.database) == ("ann", "p@ss", "trips")
    assert shown_url(url) == "postgresql://ann:***@one:5433,two:5432,[::1]:5434/trips"


def test_each_port_of_several_is_checked() -> None:
    with pytest.raises(ValueError, match="the port of the URL must be a number"):
        psycopg_url("postgresql://ann@one:5433,two:port/trips")


def test_the_first_host_that_answers_is_used(connection_url: str) -> None:
    there = make_url(connection_url)
    password = quote(str(there.password), safe="")
    url = f"postgresql://{there.username}:{password}@127.0.0.1:1,{there.host}:{there.port}/{there.database}"
    engine = make_engine(psycopg_url(url), pool_size=1)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT 1")).scalar_one() == 1
    engine.dispose()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://:secret@one:26379/mymaster/0", "Sentinel and Cluster are not supported"),
        ("sentinel://:secret@one:26379", "Sentinel and Cluster are not supported"),
        ("redis://:secret@one:1,two:2/0", "several hosts are not supported"),
    ],
)
def test_redis_of_several_hosts_is_refused_in_words(url: str, why: str) -> None:
    with pytest.raises(ValidationError, match=why) as raised:
        Settings(redis_url=url)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("scheme", ["valkey", "valkeys"])
def test_valkey_has_urls_too(scheme: str) -> None:
    given = Settings(redis_url=f"{scheme}://:p@cache:1/0").redis_url
    assert given is not None
    assert given.get_secret_value() == f"redis{scheme[6:]}://:p@cache:1/0"


@pytest.mark.parametrize(("text_", "threshold"), [("0", None), ("off", None), ("3", 3)])
def test_prepared_statements_may_be_turned_off_in_the_url(
    text_: str, threshold: int | None, connection_url: str
) -> None:
    engine = make_engine(psycopg_url(f"{connection_url}?prepare_threshold={text_}"), pool_size=1)
    with engine.connect() as connection:
        assert connection.connection.driver_connection.prepare_threshold == threshold  # type: ignore[union-attr]
        for _ in range(8):
            connection.exec_driver_sql("SELECT 1")
        made = connection.exec_driver_sql(
            "SELECT count(*) FROM pg_prepared_statements"
        ).scalar_one()
    engine.dispose()
    assert bool(made) == (threshold is not None)


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValidationError, match="prepare_threshold is a number of runs"):
        Settings(database_url="postgresql://ann@db/trips?prepare_threshold=many")
