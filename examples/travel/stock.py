"""Stock: ``python -m examples.travel.stock`` makes the contexts' tables for the shipped day.

It leaves tables that are there as they are, so it may be run at every deploy.
"""

from sqlalchemy import Connection, inspect

from examples.travel import aftercare
from examples.travel.app import build_runtime
from examples.travel.contexts import create_tables
from examples.travel.contexts.schema import SCHEMA
from examples.travel.day import read_day


def stock(connection: Connection) -> bool:
    """Make and fill the tables unless they are there; returns whether it did.

    The caller commits.
    """
    translated = connection.get_execution_options().get("schema_translate_map", {})
    if inspect(connection).has_table("flights_departures", schema=translated.get(SCHEMA, SCHEMA)):
        return False
    create_tables(connection, read_day())
    aftercare.create_tables(connection)
    return True


def main() -> None:
    """Stock the travel agent's configured database."""
    runtime = build_runtime()
    try:
        with runtime.engine.begin() as connection:
            made = stock(connection)
    finally:
        runtime.close()
    print("stocked the day's seats, rooms and cars" if made else "stocked before")  # noqa: T201


if __name__ == "__main__":
    main()
