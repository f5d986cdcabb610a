"""The `saga` command on this test's own servers."""

import os
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from boundary import Runtime, Settings
from boundary.cli import main
from tests.boundary.worlds import shop
from tests.boundary.worlds.causal_trees import Wood
from tests.boundary.worlds.command_line import COMMAND, HERE, Orders, Ran
from tests.conftest import make_engine


@pytest.fixture
def environment(empty_settings: Settings) -> dict[str, str]:
    """The settings of this test as the environment of a command."""
    assert empty_settings.database_url is not None
    assert empty_settings.redis_url is not None
    plain = {k: v for k, v in os.environ.items() if not k.startswith("SAGA_") and k != "COLUMNS"}
    return plain | {
        "SAGA_DATABASE_URL": empty_settings.database_url.get_secret_value(),
        "SAGA_REDIS_URL": empty_settings.redis_url.get_secret_value(),
        "SAGA_SCHEMA": empty_settings.db_schema,
        "SAGA_NAMESPACE": empty_settings.namespace,
        "TZ": "UTC",
    }


@pytest.fixture
def saga(environment: dict[str, str]) -> Callable[..., Ran]:
    """Run the real command: `saga("list", SAGA_APP="shop:make")`."""

    def run(*arguments: str, stdin: str = "", **changes: str) -> Ran:
        done = subprocess.run(
            [COMMAND, *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            cwd=HERE,
            env=environment | changes,
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def call(
    environment: dict[str, str],
    no_server_is_started: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., Ran]:
    """Run the command in this process, which is faster: `call("list", SAGA_APP="shop:make")`."""
    monkeypatch.chdir(HERE)
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "10")
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str, **changes: str) -> Ran:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("SAGA_")]:
                patch.delenv(name)
            for name, value in (environment | changes).items():
                if name.startswith("SAGA_"):
                    patch.setenv(name, value)
            capsys.readouterr()
            with pytest.raises(SystemExit) as ended:
                main(arguments)
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ran(ended.value.code, said.out, said.err)

    return run


@pytest.fixture
def orders(runtime: Callable[..., Runtime]) -> Orders:
    """A shop in which orders can be placed and handled."""
    made = runtime(shop.SAGAS, shop.CONTEXTS)
    made.subscribe()
    return Orders(made)


@pytest.fixture(params=["one_database", "cedar_has_its_own"])
def wood(request: Any, runtime: Any, outside: Any) -> Iterator[Wood]:
    """A wood, all in one database and with one context in a database of its own."""
    if request.param == "one_database":
        yield Wood(runtime, outside)
        return
    engine = make_engine(request.getfixturevalue("elsewhere"))
    yield Wood(runtime, outside, request.getfixturevalue("apart"), engine)
    engine.dispose()


@pytest.fixture
def no_server_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """No command of these tests may fall back on embedded servers."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("an embedded server would be started")

    monkeypatch.setattr("boundary.runtime.servers.Servers._start", refuse)
