"""Complaints of the `saga` command: one sentence, the right exit code, no traceback, no password."""

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from boundary import Settings
from tests.boundary.worlds.command_line import NOWHERE, Orders, Ran

pytestmark = pytest.mark.usefixtures("no_server_is_started")


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
