"""Migration: bring the framework's schema to the newest version, from a checkout or a wheel."""

import hashlib
from importlib import resources
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.schema import CreateSchema

from internals.database.commit_points import Boundary, transaction
from internals.database.connections import SqlAlchemyDatabase
from internals.store.sql import statements


def migrate(engine: Engine, schema: str, revision: str = "head") -> None:
    """Create the schema if need be and upgrade its tables to `revision`.

    One transaction under an advisory lock: it is safe to run by several deploys at once, and
    nothing is left half done.  Raises `DefinitionError` for a schema name that is no identifier.
    """
    with transaction(SqlAlchemyDatabase(engine), Boundary.MIGRATE) as unit:
        connection = unit.connection
        _lock(connection, schema)
        if not inspect(connection).has_schema(schema):  # needs no privilege if it is there
            connection.execute(CreateSchema(schema))
        command.upgrade(_config(connection, schema), revision)


def downgrade(engine: Engine, schema: str, revision: str = "base") -> None:
    """Take the tables back to an older revision; what they hold is lost."""
    with transaction(SqlAlchemyDatabase(engine), Boundary.MIGRATE) as unit:
        _lock(unit.connection, schema)
        command.downgrade(_config(unit.connection, schema), revision)


def revisions(connection: Connection, schema: str) -> tuple[str | None, str | None, set[str]]:
    """Return the revision that the tables are at, the newest one, and all that are known here."""
    config = _config(connection, schema)
    scripts = ScriptDirectory.from_config(config)
    # The revisions read the schema's name from Alembic's context while they are imported.
    with EnvironmentContext(config, scripts):
        known = {script.revision for script in scripts.walk_revisions()}
    options = {"version_table": "saga_alembic_version", "version_table_schema": schema}
    current = MigrationContext.configure(connection, opts=options).get_current_revision()
    return current, scripts.get_current_head(), known


def _lock(connection: Connection, schema: str) -> None:
    statements(schema)  # refuses a name that is no identifier
    digest = hashlib.blake2b(f"migrate {schema}".encode(), digest_size=8).digest()
    key = int.from_bytes(digest, signed=True)
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


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
