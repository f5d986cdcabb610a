"""Migration: bring the framework's schema to the newest version, from a checkout or a wheel.

A revision runs in a transaction, unless it says `atomic = False`: then Alembic opens and commits its
own, and the revision may leave it for what Postgres refuses in one (`create_index_concurrently`).
"""

import hashlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from itertools import groupby
from pathlib import Path
from typing import Any

from alembic import command, context, op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.schema import CreateSchema

from internals.database.commit_points import Boundary, transaction
from internals.database.connections import SqlAlchemyDatabase
from internals.store.sql import statements

_logger = logging.getLogger(__name__)

#: Seconds between two looks for whether another deploy has ended its migration.
_LOOK_AGAIN = 0.1

# The transaction is idle for as long as the migration takes.
_TRY_LOCK = text("""
SELECT pg_try_advisory_xact_lock(:key), (
    SELECT count(set_config(name, '0', true)) FROM pg_settings WHERE name = 'transaction_timeout'
)
""")

# The last statement, and none that reads: what was read may keep its snapshot until another statement
# follows, and an index that is made concurrently would wait for its end.
_STAY_IDLE = text("SET LOCAL idle_in_transaction_session_timeout = 0")

# Who builds it was killed: nobody else may, while this migration has the lock.
_END_ORPHAN = text("""
SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_progress_create_index
WHERE index_relid = :index AND datname = current_database()
""")

_INVALID = text("""
SELECT c.oid FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index i ON i.indexrelid = c.oid
WHERE n.nspname = :schema AND c.relname = :name AND NOT i.indisvalid
""")


def migrate(engine: Engine, schema: str, revision: str = "head") -> None:
    """Create the schema if need be and upgrade its tables to `revision`.

    Several deploys may run it at once: one does it, and the others wait.  Revisions that follow each
    other share a transaction; one with `atomic = False` has its own, and is run again if it was
    ended half-way.  Raises `DefinitionError` for a schema name that is no identifier.
    """
    with _alone(engine, schema):
        with _connection(engine) as connection:
            if not inspect(connection).has_schema(schema):  # needs no privilege if it is there
                connection.execute(CreateSchema(schema))
            runs = _runs(reversed(_between(connection, schema, newest=revision)))
            if runs and _is_atomic(runs[0]):
                command.upgrade(_config(connection, schema), runs.pop(0).revision)
        for last in runs:
            with _connection(engine, atomic=_is_atomic(last)) as connection:
                command.upgrade(_config(connection, schema), last.revision)


def downgrade(engine: Engine, schema: str, revision: str = "base") -> None:
    """Take the tables back to an older revision; what they hold is lost."""
    with _alone(engine, schema):
        with _connection(engine) as connection:
            runs = _runs(_between(connection, schema, oldest=revision))
        for last in runs:
            with _connection(engine, atomic=_is_atomic(last)) as connection:
                command.downgrade(_config(connection, schema), str(last.down_revision or "base"))


def create_index_concurrently(
    name: str, table: str, columns: Sequence[str], **options: Any
) -> None:
    """Create an index while workers write: for a revision with `atomic = False`, and nothing else in it.

    An index that a migration left invalid, since it was ended half-way, is made again.

    Args:
        name: The index, which may be there already.
        table: The table, without the schema's name.
        columns: What it is on, as `op.create_index` takes it.
        options: The others of `op.create_index`, such as `postgresql_where`.
    """
    schema = context.config.attributes["schema"]
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        invalid = connection.execute(_INVALID, {"schema": schema, "name": name}).scalar()
        if invalid is not None:
            connection.execute(_END_ORPHAN, {"index": invalid})
            _drop_index(name, schema)
        op.create_index(
            name,
            table,
            columns,
            schema=schema,
            postgresql_concurrently=True,
            if_not_exists=True,
            **options,
        )


def drop_index_concurrently(name: str) -> None:
    """Drop an index while workers write: for a revision with `atomic = False`."""
    with op.get_context().autocommit_block():
        _drop_index(name, context.config.attributes["schema"])


def revisions(connection: Connection, schema: str) -> tuple[str | None, str | None, set[str]]:
    """Return the revision that the tables are at, the newest one, and all that are known here."""
    with _scripts_of(connection, schema) as scripts:
        known = {script.revision for script in scripts.walk_revisions()}
        return _current(connection, schema), scripts.get_current_head(), known


@contextmanager
def _alone(engine: Engine, schema: str) -> Iterator[None]:
    """Hold the lock of this schema's migrations, as long as the process and its connection live.

    A transaction holds it, since PgBouncer may give each transaction another session.  Who waits
    has no transaction open meanwhile: an index that is made concurrently waits for those.
    """
    statements(schema)  # refuses a name that is no identifier
    digest = hashlib.blake2b(f"migrate {schema}".encode(), digest_size=8).digest()
    key = {"key": int.from_bytes(digest, signed=True)}
    with engine.connect() as connection:
        # With what a host's engine may have, a snapshot is kept, or the lock is given back at once.
        connection.execution_options(isolation_level="READ COMMITTED")
        connection.detach()  # a pool of one connection is enough
        waiting = False
        while not connection.execute(_TRY_LOCK, key).scalar():
            connection.rollback()
            if not waiting:
                _logger.info("another process migrates schema %s; waiting for it", schema)
            waiting = True
            time.sleep(_LOOK_AGAIN)
        connection.execute(_STAY_IDLE)
        yield


@contextmanager
def _connection(engine: Engine, *, atomic: bool = True) -> Iterator[Connection]:
    """Give Alembic a connection: in a transaction, or one to open its own on."""
    if atomic:
        with transaction(SqlAlchemyDatabase(engine), Boundary.MIGRATE) as unit:
            yield unit.connection
    else:
        with engine.connect() as connection:
            yield connection


def _between(
    connection: Connection, schema: str, *, newest: str | None = None, oldest: str | None = None
) -> list[Script]:
    """Return the revisions after the oldest up to the newest one, which comes first.

    Where one is not given it is what the tables are at.
    """
    current = _current(connection, schema) or "base"
    with _scripts_of(connection, schema) as scripts:
        return list(scripts.iterate_revisions(newest or current, oldest or current))


def _runs(scripts: Iterable[Script]) -> list[Script]:
    """Return the last of those that are run together, of each run."""
    return [[*run][-1] for _, run in groupby(scripts, _is_atomic)]


def _is_atomic(script: Script) -> bool:
    return getattr(script.module, "atomic", True)


def _drop_index(name: str, schema: str) -> None:
    op.drop_index(name, schema=schema, postgresql_concurrently=True, if_exists=True)


def _current(connection: Connection, schema: str) -> str | None:
    options = {"version_table": "saga_alembic_version", "version_table_schema": schema}
    return MigrationContext.configure(connection, opts=options).get_current_revision()


@contextmanager
def _scripts_of(connection: Connection, schema: str) -> Iterator[ScriptDirectory]:
    config = _config(connection, schema)
    scripts = ScriptDirectory.from_config(config)
    # The revisions read the schema's name from Alembic's context while they are imported.
    with EnvironmentContext(config, scripts):
        yield scripts


def _config(connection: Connection, schema: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_scripts()))
    config.set_main_option("path_separator", "os")
    config.attributes.update(connection=connection, schema=schema)
    return config


def _scripts() -> Path:
    """The migrations inside the installed package, or beside it in a checkout."""
    packaged = Path(str(resources.files("boundary"))) / "migrations"
    return packaged if packaged.is_dir() else packaged.parent.parent / "migrations"
