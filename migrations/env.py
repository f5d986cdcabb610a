"""Alembic's entry: runs on the connection that `boundary.migration` hands in."""

from alembic import context

from internals.store.tables import SCHEMA, metadata

attributes = context.config.attributes
schema = attributes.get("schema", SCHEMA)

context.configure(
    connection=attributes["connection"],
    target_metadata=metadata,
    version_table="saga_alembic_version",
    version_table_schema=schema,
    include_schemas=True,
    transaction_per_migration=True,  # unless the connection is in a transaction already
)
with context.begin_transaction():
    context.run_migrations()
