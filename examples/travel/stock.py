"""Stock: ``python -m examples.travel.stock`` makes the contexts' tables for the shipped day.

It leaves tables that are there as they are, so it may be run at every deploy; those of an earlier
release of the example it refuses.
"""

import sys

from sqlalchemy import Connection, inspect

from examples.travel import aftercare
from examples.travel.app import build_runtime
from examples.travel.contexts import create_tables
from examples.travel.contexts.schema import SCHEMA
from examples.travel.day import read_day


def stock(connection: Connection) -> bool:
    """Make and fill the tables unless they are there; returns whether it did.

    The caller commits.  Raises `RuntimeError` for tables of an earlier release.
    """
    translated = connection.get_execution_options().get("schema_translate_map", {})
    schema = translated.get(SCHEMA, SCHEMA)
    found = set(inspect(connection).get_table_names(schema=schema))
    if aftercare.itineraries.name in found:
        return False
    if found:
        raise RuntimeError(
            f"the tables in schema {schema} are of an earlier release of this example; drop the "
            "schema, and that of its sagas"
        )
    create_tables(connection, read_day())
    aftercare.create_tables(connection)
    return True


def main() -> None:
    """Stock the travel agent's configured database."""
    runtime = build_runtime()
    try:
        with runtime.engine.begin() as connection:
            made = stock(connection)
    except RuntimeError as error:
        sys.exit(f"Error: {error}")
    finally:
        runtime.close()
    print("stocked the day's seats, rooms and cars" if made else "stocked before")  # noqa: T201


if __name__ == "__main__":
    main()
