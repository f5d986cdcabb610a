"""Migrations: the schema they make is the one the code declares, wherever and however often."""

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, MetaData, create_engine, event, inspect, text

from boundary.embedded import EmbeddedServers
from boundary.migration import downgrade, migrate, revisions
from boundary.settings import Settings
from internals.store.tables import metadata
from saga import DefinitionError

TABLES = {"inbox", "outbox", "saga", "subscription", "audit", "settling", "backfill"}
VERSION_TABLE = "saga_alembic_version"


def tables(engine: Engine, schema: str) -> set[str]:
    return set(inspect(engine).get_table_names(schema=schema))


def declared(schema: str) -> MetaData:
    """The declared tables, in this schema."""
    copy = MetaData(naming_convention=metadata.naming_convention)
    for table in metadata.tables.values():
        table.to_metadata(copy, schema=schema)
    return copy


def differences(owner: Engine, schema: str) -> list[Any]:
    """What Alembic would change to make the schema what is declared."""

    def own_schema_only(name: str | None, type_: str, parents: Any) -> bool:
        if type_ == "schema":
            return name == schema
        return not (type_ == "table" and name == VERSION_TABLE)

    with owner.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "include_schemas": True,
                "include_name": own_schema_only,
                "compare_type": True,
                "compare_server_default": True,
                "version_table": VERSION_TABLE,
                "version_table_schema": schema,
            },
        )
        return list(compare_metadata(context, declared(schema)))


class TestSchema:
    def test_what_is_migrated_is_what_is_declared(self, owner: Engine, schema: str) -> None:
        assert tables(owner, schema) == TABLES | {VERSION_TABLE}
        assert differences(owner, schema) == []

    @pytest.mark.parametrize(
        "change",
        [
            "ALTER TABLE inbox DROP COLUMN rings",
            "ALTER TABLE inbox ALTER COLUMN rings TYPE bigint",
            "ALTER TABLE inbox ALTER COLUMN ring_at DROP NOT NULL",
            "DROP INDEX saga_name_key_key",
            "ALTER TABLE saga ADD COLUMN extra int",
            "DROP TABLE subscription",
            "ALTER TABLE inbox ALTER COLUMN state SET DEFAULT 'done'",
            "COMMENT ON COLUMN outbox.id IS 'x'",
        ],
    )
    def test_the_comparison_would_see_a_difference(
        self, owner: Engine, engine: Engine, schema: str, change: str
    ) -> None:
        with engine.begin() as connection:
            connection.execute(text(change))
        assert differences(owner, schema) != []

    def test_conditions_of_indexes_and_checks_are_those_declared(
        self, engine: Engine, schema: str
    ) -> None:
        # Alembic compares neither, nor how tables are stored: read all of it from a schema that is
        # made of the declaration.
        twin = f"{schema}_twin"
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {twin}"))
            declared(twin).create_all(connection)
        try:
            assert _definitions(engine, schema) == _definitions(engine, twin)
        finally:
            with engine.begin() as connection:
                connection.execute(text(f"DROP SCHEMA {twin} CASCADE"))

    def test_nothing_is_made_outside_its_schema(
        self, owner: Engine, empty_settings: Settings
    ) -> None:
        def others() -> set[tuple[str, str]]:
            with owner.connect() as connection:
                rows = connection.execute(
                    text(
                        "SELECT schemaname, tablename FROM pg_tables "
                        "WHERE schemaname NOT LIKE 'saga_test_%' AND schemaname NOT LIKE 'pg_%'"
                    )
                )
                return {(row[0], row[1]) for row in rows}

        before = others()
        migrate(owner, empty_settings.db_schema)
        assert others() == before


def _definitions(engine: Engine, schema: str) -> set[str]:
    query = text(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = :schema AND tablename <> :version "
        "UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = CAST(:schema AS regnamespace) "
        "AND conrelid::regclass::text NOT LIKE '%' || :version "
        "UNION ALL SELECT relname || ' ' || reloptions::text FROM pg_class "
        "WHERE relnamespace = CAST(:schema AS regnamespace) AND relkind = 'r' "
        "AND reloptions IS NOT NULL"
    )
    with engine.connect() as connection:
        rows = connection.execute(query, {"schema": schema, "version": VERSION_TABLE})
        return {row[0].replace(f"{schema}.", "") for row in rows}


class TestVersions:
    def test_again_changes_nothing_and_keeps_what_is_stored(
        self, owner: Engine, schema: str, outside: Any
    ) -> None:
        outside.execute("INSERT INTO subscription (kind, consumer) VALUES ('a.b', 'c')")
        migrate(owner, schema)
        assert len(outside.execute("SELECT * FROM subscription").fetchall()) == 1

    def test_down_and_up_again(self, owner: Engine, schema: str) -> None:
        downgrade(owner, schema)
        assert tables(owner, schema) == {VERSION_TABLE}
        migrate(owner, schema)
        assert differences(owner, schema) == []

    def test_where_it_stands_can_be_asked(self, owner: Engine, empty_settings: Settings) -> None:
        schema = empty_settings.db_schema
        with owner.connect() as connection:
            current, newest, known = revisions(connection, schema)
            assert current is None
            assert newest in known
        migrate(owner, schema)
        with owner.connect() as connection:
            assert revisions(connection, schema)[0] == newest

    def test_two_deploys_at_once_are_one_migration(
        self, owner: Engine, empty_settings: Settings
    ) -> None:
        schema = empty_settings.db_schema
        with ThreadPoolExecutor(4) as pool:
            for run in [pool.submit(migrate, owner, schema) for _ in range(4)]:
                run.result(60)
        assert tables(owner, schema) == TABLES | {VERSION_TABLE}
        with owner.connect() as connection:
            rows = connection.execute(text(f"SELECT * FROM {schema}.{VERSION_TABLE}")).all()
        assert len(rows) == 1

    def test_one_that_fails_leaves_nothing_half_done(
        self, owner: Engine, empty_settings: Settings
    ) -> None:
        schema = empty_settings.db_schema
        with owner.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schema}"))
            connection.execute(text(f"CREATE TABLE {schema}.saga (n int)"))  # in the way
        with pytest.raises(Exception, match="already exists"):
            migrate(owner, schema)
        assert tables(owner, schema) == {"saga"}


@pytest.mark.parametrize("schema", ["Saga", "a-b", "a b", 'a"b', "a;b", "", "1a", "x" * 64, "ä"])
def test_a_schema_that_is_no_plain_name_is_refused(owner: Engine, schema: str) -> None:
    with pytest.raises(DefinitionError, match="lower-case identifier"):
        migrate(owner, schema)
    with pytest.raises(DefinitionError, match="lower-case identifier"):
        downgrade(owner, schema)


def test_a_role_that_may_not_make_schemas_can_migrate_one_that_is_there(
    own_servers: EmbeddedServers,
) -> None:
    owner = create_engine(own_servers.database_url)
    careful = create_engine(own_servers.database_url)

    @event.listens_for(careful, "connect")
    def become_the_role(connection: Any, _: object) -> None:
        connection.execute("SET SESSION AUTHORIZATION careful")
        connection.commit()

    with owner.begin() as connection:
        connection.execute(text("CREATE ROLE careful"))
        connection.execute(text("CREATE SCHEMA ours AUTHORIZATION careful"))
    migrate(careful, "ours")
    assert tables(owner, "ours") == TABLES | {VERSION_TABLE}
    with pytest.raises(Exception, match="permission denied for database"):
        migrate(careful, "theirs")
    owner.dispose()
    careful.dispose()


def test_it_does_not_take_over_the_host_s_logging(owner: Engine, schema: str) -> None:
    before = (logging.getLogger().handlers[:], logging.getLogger("alembic").disabled)
    migrate(owner, schema)
    assert (logging.getLogger().handlers, logging.getLogger("alembic").disabled) == before
