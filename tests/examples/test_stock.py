"""The tables of the travel example are made and filled once, however often a deploy asks."""

from typing import Any

from sqlalchemy import Engine, create_engine, text

from examples.travel.contexts.schema import SCHEMA
from examples.travel.stock import stock
from tests.schemas import drop_schema


def test_it_stocks_once(connection_url: str, own_name: str, owner: Engine) -> None:
    engine = create_engine(
        connection_url, execution_options={"schema_translate_map": {SCHEMA: own_name}}
    )

    def seats() -> Any:
        with engine.connect() as connection:
            return connection.scalar(text(f"SELECT count(*) FROM {own_name}.flights_seats"))

    try:
        with engine.begin() as connection:
            assert stock(connection)
        found = seats()
        assert found > 10_000
        with engine.begin() as connection:
            assert not stock(connection)
        assert seats() == found
    finally:
        engine.dispose()
        with owner.begin() as connection:
            drop_schema(connection, own_name)
