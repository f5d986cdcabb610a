"""Real servers for the tests: the given ones, or one embedded pair that all test processes share.

Every test that asks for `settings` gets a Postgres schema and a Redis namespace of its own, which
are dropped afterwards; nothing outside them is ever touched.  A test that must wipe or kill a
server starts `own_servers`.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import psycopg
import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import Engine, NullPool, create_engine, text

from boundary.embedded import EmbeddedServers
from boundary.runtime import Runtime
from boundary.settings import Settings
from tests.packaged import installed, packaged, wheel  # noqa: F401 - fixtures
from tests.schemas import drop_schema, make_schema

ROOT = Path(__file__).parents[1]

#: Where the embedded servers of this run are: set by the controller for its test processes.
DIRECTORY = "SAGA_TEST_SERVERS"
GIVEN = {"postgres": "SAGA_DATABASE_URL", "valkey": "SAGA_REDIS_URL"}

#: Under this property a random test says what it tried, and its seed.
TRIED = "tried"

#: What a test's own schema and namespace look like; nothing else is ever dropped.
OWN_NAME = re.compile(r"saga_test_[0-9a-f]{12}")


#: A test that asks for one of these, directly or not, needs a server.
SERVERS = frozenset({"servers", "own_servers", "durable_servers", "durable_postgres", "own_valkey"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a server, so that `-m "not servers"` leaves them out."""
    for item in items:
        if SERVERS.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("servers")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the controller, or the only process
        os.environ[DIRECTORY] = str(_open_folder() / "servers")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what random tests tried, however they ended, so that each can be tried again."""
    for ended in ("passed", "failed"):
        for report in terminalreporter.getreports(ended):
            for name, tried in report.user_properties:
                if name == TRIED and report.when == "call":
                    terminalreporter.write_line(f"{report.head_line}: {tried}")


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(Path(os.environ.pop(DIRECTORY)).parent, ignore_errors=True)


@dataclass(frozen=True)
class Addresses:
    """Where the servers are."""

    database_url: str
    redis_url: str


@pytest.fixture(scope="session")
def servers() -> Iterator[Addresses]:
    """The servers of this run; the last test process to leave stops the embedded ones."""
    given = {name: os.environ.get(variable) for name, variable in GIVEN.items()}
    with ExitStack() as used:
        embedded = EmbeddedServers(
            Path(os.environ[DIRECTORY]),
            durable=False,
            postgres=given["postgres"] is None,
            valkey=given["valkey"] is None,
        )
        if None in given.values():
            used.enter_context(embedded)
        settings = Settings(
            database_url=given["postgres"] or embedded.database_url,
            redis_url=given["valkey"] or embedded.redis_url,
        )
        assert settings.database_url is not None
        assert settings.redis_url is not None
        yield Addresses(
            settings.database_url.get_secret_value(), settings.redis_url.get_secret_value()
        )


@pytest.fixture(scope="session")
def connection_url(servers: Addresses) -> str:
    """SQLAlchemy's URL of Postgres."""
    return servers.database_url


@pytest.fixture(scope="session")
def owner(servers: Addresses) -> Iterator[Engine]:
    """Makes and drops the schemas of this process's tests."""
    engine = create_engine(servers.database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def own_name() -> str:
    """The name of this test's schema, which is not there yet, and the prefix of its Redis keys."""
    return f"saga_test_{uuid4().hex[:12]}"


@pytest.fixture
def empty_settings(servers: Addresses, owner: Engine, own_name: str) -> Iterator[Settings]:
    """Settings for a schema that nobody has migrated yet."""
    yield Settings(
        database_url=servers.database_url,
        redis_url=servers.redis_url,
        db_schema=own_name,
        namespace=own_name,
    )
    _drop(owner, servers.redis_url, own_name)


@pytest.fixture
def settings(empty_settings: Settings, owner: Engine) -> Settings:
    """Settings for this test's own, migrated schema."""
    make_schema(owner, empty_settings.db_schema)
    return empty_settings


@pytest.fixture
def schema(settings: Settings) -> str:
    """This test's own, migrated schema."""
    return settings.db_schema


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine for what the test itself does; its own tables are found without a schema's name."""
    engine = make_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def runtime(settings: Settings) -> Iterator[Callable[..., Runtime]]:
    """Make a runtime on this test's schema: `runtime(sagas, contexts, budget=…)`."""
    with ExitStack() as made:

        def make(
            sagas: Any = (), contexts: Any = (), databases: Any = None, **changes: Any
        ) -> Runtime:
            engine = make_engine(settings)
            runtime = Runtime(
                sagas=sagas,
                contexts=contexts,
                settings=settings.model_copy(update=changes),
                engine=engine,
                databases=databases,
            )
            made.callback(engine.dispose)
            made.callback(runtime.close)
            return runtime

        yield make


@pytest.fixture(scope="session")
def second_database(owner: Engine) -> Iterator[str]:
    """A second database on the server, of this process's own: SQLAlchemy's URL of it."""
    name = f"saga_test_{uuid4().hex[:12]}"
    with owner.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield owner.url.set(database=name).render_as_string(hide_password=False)
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def elsewhere(settings: Settings, second_database: str) -> Iterator[Settings]:
    """The settings of a second database, migrated, in which the test's schema has the same name."""
    made = settings.model_copy(update={"database_url": SecretStr(second_database)})
    engine = create_engine(second_database, poolclass=NullPool)
    make_schema(engine, made.db_schema)
    yield made
    with engine.begin() as connection:
        drop_schema(connection, made.db_schema)


@pytest.fixture
def apart(elsewhere: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the second database, in autocommit mode: as `outside` is to the first."""
    with connect(elsewhere) as connection:
        yield connection


@pytest.fixture
def redis_client(settings: Settings) -> Iterator[redis.Redis]:
    """A client of the Redis that the settings name."""
    assert settings.redis_url is not None
    with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client:
        yield client


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Wait until a condition holds, and fail if it does not: `eventually(lambda: …, 30)`."""
    return wait_until


@pytest.fixture
def start_group() -> Iterator[Callable[..., "WorkerGroup"]]:
    """Start real `dramatiq` processes: `start_group("module:broker", settings, threads=…)`.

    They are killed after the test.
    """
    with ExitStack() as started:

        def start(broker: str, settings: Settings, **options: Any) -> WorkerGroup:
            group = WorkerGroup(broker, settings, **options)
            started.callback(group.close)
            return group

        yield start


@pytest.fixture
def own_servers() -> Iterator[EmbeddedServers]:
    """Embedded servers of this test's own, which it may wipe and stop."""
    yield from _servers_of_its_own(durable=False)


@pytest.fixture
def durable_servers() -> Iterator[EmbeddedServers]:
    """The same, for a test that kills Postgres: what is committed is on disk."""
    yield from _servers_of_its_own(durable=True)


@pytest.fixture
def durable_postgres() -> Iterator[EmbeddedServers]:
    """Another Postgres of this test's own, which it may kill."""
    yield from _servers_of_its_own(durable=True, valkey=False)


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[EmbeddedServers]:
    """A Valkey of this module's own, which its tests may harm and have to heal."""
    yield from _servers_of_its_own(durable=False, postgres=False)


def _servers_of_its_own(
    *, durable: bool, postgres: bool = True, valkey: bool = True
) -> Iterator[EmbeddedServers]:
    top = _open_folder()
    servers = EmbeddedServers(top / "servers", durable=durable, postgres=postgres, valkey=valkey)
    with servers:
        yield servers
    shutil.rmtree(top)


class WorkerGroup:
    """A `dramatiq` command and the processes it forks.

    Args:
        broker: As on the command line: ``module:broker``.
        settings: Handed over in the environment.
        processes, threads: As on the command line.
        environment: More variables.
        options: Further ones of the command line.
    """

    def __init__(
        self,
        broker: str,
        settings: Settings,
        *,
        processes: int = 1,
        threads: int = 4,
        environment: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
    ) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        command = [sys.executable, "-m", "dramatiq", broker]
        command += ["--processes", str(processes), "--threads", str(threads)]
        command += ["--worker-shutdown-timeout", "5000", *options]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=os.environ | worker_environment(settings) | dict(environment or {}),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Of the command, whose children do the work."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the command has not ended."""
        return self._process.poll() is None

    def kill(self) -> None:
        """SIGKILL all of its processes at once, as a machine that loses power does."""
        forked: list[psutil.Process] = []
        with suppress(psutil.NoSuchProcess):
            forked = psutil.Process(self._process.pid).children(recursive=True)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        psutil.wait_procs(forked, timeout=30)

    def stop(self) -> int:
        """Ask it to stop, as a deploy does, and return its exit status."""
        self._process.terminate()
        return self._process.wait(timeout=30)

    def log(self) -> str:
        """What it has printed so far."""
        self._log.seek(0)
        return self._log.read().decode(errors="replace")

    def close(self) -> None:
        self.kill()
        print(f"--- worker {self._process.pid}\n{self.log()}")  # noqa: T201 - shown on failure
        self._log.close()


def worker_environment(settings: Settings) -> dict[str, str]:
    """Return these settings as the environment of another process."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    return {
        "SAGA_DATABASE_URL": settings.database_url.get_secret_value(),
        "SAGA_REDIS_URL": settings.redis_url.get_secret_value(),
        "SAGA_SCHEMA": settings.db_schema,
        "SAGA_NAMESPACE": settings.namespace,
        "PYTHONPATH": str(ROOT),
    }


def make_engine(settings: Settings) -> Engine:
    """Return an engine that finds the test's own tables without naming the schema."""
    assert settings.database_url is not None
    return create_engine(
        settings.database_url.get_secret_value(),
        pool_size=10,
        connect_args={"options": f"-c search_path={settings.db_schema}"},
    )


def wait_until(condition: Callable[[], Any], seconds: float = 60.0, what: str = "") -> Any:
    """Return what `condition` gives as soon as it is true; fail if that takes too long."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds:.0f} s: {what or 'what was waited for'}")
        time.sleep(0.01)  # between two looks; nothing relies on its length
    return found


def _drop(owner: Engine, redis_url: str, name: str) -> None:
    assert OWN_NAME.fullmatch(name), name
    with owner.begin() as connection:
        drop_schema(connection, name)
    with redis.Redis.from_url(redis_url) as client:
        for key in client.scan_iter(f"{name}:*", count=1000):
            client.delete(key)


def _open_folder() -> Path:
    """A new folder that any user of the host can traverse; what pytest makes is closed."""
    folder = Path(tempfile.mkdtemp(prefix="saga-test-", dir="/tmp")).resolve()
    folder.chmod(0o755)
    return folder


def connect(settings: Settings) -> psycopg.Connection[Any]:
    """Return a plain connection in autocommit mode, which sees only what is committed."""
    assert settings.database_url is not None
    url = settings.database_url.get_secret_value().replace("+psycopg", "")
    return psycopg.connect(url, autocommit=True, options=f"-c search_path={settings.db_schema}")


@pytest.fixture
def outside(settings: Settings) -> Iterator[psycopg.Connection[Any]]:
    """A connection of its own in autocommit mode: it sees only what is committed."""
    with connect(settings) as connection:
        yield connection
