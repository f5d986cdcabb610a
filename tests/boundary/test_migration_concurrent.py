"""A later migration that makes an index while workers write: alone, twice at once, and killed half-way."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, text

import boundary.migration
from boundary.migration import downgrade, migrate
from boundary.settings import Settings
from tests.conftest import wait_until

SECONDS = 60

#: What a later release may bring: an index, and then a column.
INDEX = """
from boundary.migration import create_index_concurrently, drop_index_concurrently

revision = "9001"
down_revision = "{newest}"
atomic = False


def upgrade() -> None:
    create_index_concurrently("outbox_sender_idx", "outbox", ["sender"])


def downgrade() -> None:
    drop_index_concurrently("outbox_sender_idx")
"""
COLUMN = """
import sqlalchemy as sa
from alembic import context, op

revision = "9002"
down_revision = "9001"


def upgrade() -> None:
    op.add_column("outbox", sa.Column("extra", sa.Text), schema=context.config.attributes["schema"])


def downgrade() -> None:
    op.drop_column("outbox", "extra", schema=context.config.attributes["schema"])
"""

#: A deploy, in a process that can be killed.
DEPLOY = """
import sys
from pathlib import Path
from sqlalchemy import create_engine
import boundary.migration
boundary.migration._scripts = lambda: Path(sys.argv[1])
boundary.migration.migrate(create_engine(sys.argv[2]), sys.argv[3])
"""


@pytest.fixture
def apart(elsewhere: Settings) -> Iterator[Engine]:
    """In a database of this process: an index waits for whoever else has read something there."""
    assert elsewhere.database_url is not None
    engine = create_engine(elsewhere.database_url.get_secret_value())
    yield engine
    engine.dispose()


@pytest.fixture
def release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: Engine, schema: str) -> Path:
    """The migrations of a later release, on a schema of this one."""
    with apart.connect() as connection:
        _, newest, _ = boundary.migration.revisions(connection, schema)
    scripts = tmp_path / "migrations"
    shutil.copytree(boundary.migration._scripts(), scripts)
    (scripts / "versions" / "9001_index.py").write_text(INDEX.format(newest=newest))
    (scripts / "versions" / "9002_column.py").write_text(COLUMN)
    monkeypatch.setattr(boundary.migration, "_scripts", lambda: scripts)
    return scripts


class Database:
    """What the tests look at."""

    def __init__(self, apart: Engine, schema: str) -> None:
        self._engine = apart
        self._schema = schema

    def rows(self, query: str) -> list[Any]:
        with self._engine.connect() as connection:
            return list(connection.execute(text(query), {"schema": self._schema}).all())

    @property
    def version(self) -> str:
        (row,) = self.rows(f"SELECT version_num FROM {self._schema}.saga_alembic_version")
        return str(row[0])

    @property
    def indexes(self) -> list[bool]:
        """Of each index that the release makes, whether it is valid."""
        query = """
        SELECT indisvalid FROM pg_index JOIN pg_class c ON c.oid = indexrelid
        WHERE relnamespace = CAST(:schema AS regnamespace) AND relname = 'outbox_sender_idx'
        """
        return [row[0] for row in self.rows(query)]

    @property
    def builders(self) -> list[int]:
        """The sessions that make an index on the outbox."""
        query = f"""
        SELECT pid FROM pg_stat_progress_create_index
        WHERE relid = CAST('{self._schema}.outbox' AS regclass)
        """
        return [row[0] for row in self.rows(query)]

    @property
    def columns(self) -> list[str]:
        query = """
        SELECT column_name FROM information_schema.columns
        WHERE table_schema = :schema AND table_name = 'outbox' AND column_name = 'extra'
        """
        return [row[0] for row in self.rows(query)]


@pytest.fixture
def database(apart: Engine, schema: str) -> Database:
    return Database(apart, schema)


@pytest.fixture
def worker(apart: Engine, schema: str) -> Iterator[Connection]:
    """A transaction that has written to the outbox: an index is not made before it has ended."""
    with apart.connect() as connection:
        connection.execute(text(f"LOCK TABLE {schema}.outbox IN ROW EXCLUSIVE MODE"))
        yield connection


@pytest.fixture
def deploys() -> Iterator[Callable[..., "Future[None]"]]:
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def test_the_index_is_made_and_what_follows_it(
    release: Path, apart: Engine, schema: str, database: Database
) -> None:
    migrate(apart, schema)
    assert (database.version, database.indexes, database.columns) == ("9002", [True], ["extra"])
    migrate(apart, schema)
    assert (database.version, database.indexes) == ("9002", [True])
    downgrade(apart, schema, "0001")
    assert (database.version, database.indexes, database.columns) == ("0001", [], [])


def test_an_engine_that_keeps_snapshots_does_as_well(
    release: Path, apart: Engine, schema: str, database: Database
) -> None:
    """An index waits for those who have a snapshot: a lock's transaction must not keep one."""
    url = apart.url.update_query_dict({"options": "-c lock_timeout=10s"})
    host = create_engine(url, isolation_level="REPEATABLE READ")
    migrate(host, schema)
    host.dispose()
    assert (database.version, database.indexes) == ("9002", [True])


def test_a_new_schema_gets_all_of_it(
    release: Path, apart: Engine, schema: str, database: Database
) -> None:
    downgrade(apart, schema)
    migrate(apart, schema)
    assert (database.version, database.indexes, database.columns) == ("9002", [True], ["extra"])


def test_workers_write_meanwhile(
    release: Path,
    apart: Engine,
    schema: str,
    database: Database,
    worker: Connection,
    deploys: Callable[..., "Future[None]"],
) -> None:
    deploy = deploys(migrate, apart, schema)
    wait_until(lambda: database.builders)
    with apart.begin() as other:  # an index that is made the other way would have it wait
        other.execute(text("SET LOCAL lock_timeout = '10s'"))
        other.execute(text(f"LOCK TABLE {schema}.outbox IN ROW EXCLUSIVE MODE"))
    worker.rollback()
    deploy.result(SECONDS)
    assert database.indexes == [True]


def test_one_that_waits_for_another_is_not_waited_for(
    release: Path,
    apart: Engine,
    schema: str,
    database: Database,
    worker: Connection,
    deploys: Callable[..., "Future[None]"],
) -> None:
    """A statement that waited for the lock would be a transaction that the index waits for."""
    first = deploys(migrate, apart, schema)
    wait_until(lambda: database.builders)
    tries = threading.Semaphore(0)
    second_engine = create_engine(apart.url, pool_size=1, max_overflow=0)
    event.listen(second_engine, "before_cursor_execute", lambda *_: tries.release())
    second = deploys(migrate, second_engine, schema)
    for _ in range(2):
        assert tries.acquire(timeout=SECONDS)
    worker.rollback()
    first.result(SECONDS)
    second.result(SECONDS)
    second_engine.dispose()
    assert (database.version, database.indexes, database.columns) == ("9002", [True], ["extra"])


def test_killed_half_way_it_is_made_again(
    release: Path,
    apart: Engine,
    schema: str,
    database: Database,
    worker: Connection,
    deploys: Callable[..., "Future[None]"],
) -> None:
    """The server goes on with the index of a process that is dead; the next deploy ends that."""
    url = apart.url.render_as_string(hide_password=False)
    killed = subprocess.Popen([sys.executable, "-c", DEPLOY, str(release), url, schema])
    wait_until(lambda: database.builders)
    (orphan,) = database.builders
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait(SECONDS)
    assert (database.version, database.indexes) == ("0001", [False])
    deploy = deploys(migrate, apart, schema)
    wait_until(lambda: orphan not in database.builders)
    worker.rollback()
    deploy.result(SECONDS)
    assert (database.version, database.indexes, database.columns) == ("9002", [True], ["extra"])


def test_killed_between_the_index_and_its_version_it_goes_on(
    release: Path, apart: Engine, schema: str, database: Database
) -> None:
    with apart.begin() as connection:
        connection.execute(text(f"CREATE INDEX outbox_sender_idx ON {schema}.outbox (sender)"))
    migrate(apart, schema)
    assert (database.version, database.indexes) == ("9002", [True])
