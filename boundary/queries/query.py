"""Query: one read of the framework's tables, whichever schema they are in."""

from collections.abc import Sequence
from typing import Any

from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.sql import statements


def query(unit: UnitOfWork, schema: str, sql: str, **parameters: Any) -> Sequence[Row]:
    """Run a statement whose tables are written as ``{schema}.saga`` and return its rows.

    Raises `DefinitionError` for a schema name that is no identifier, else what psycopg raises.
    """
    statements(schema)  # refuses such a name
    return unit.run(sql.format(schema=schema), parameters)
