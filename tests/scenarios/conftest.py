"""The shop as its owner sees it: orders go in, workers come and go, and the ledger is checked."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from app import ORDER as SAGA
from app import STOCK, Order, create_tables, make_runtime

from boundary import Runtime, Settings
from boundary.embedded import EmbeddedServers
from boundary.history import differences
from boundary.migration import migrate
from internals.unit_of_work import SqlAlchemyUnitOfWork

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


class Shop:
    """A shop with its own schema, and with workers as real processes."""

    def __init__(
        self, settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
    ) -> None:
        assert settings.database_url is not None
        self.settings = settings
        self._start_group = start_group
        self._eventually = eventually
        self._url = settings.database_url.get_secret_value().replace("+psycopg", "")
        self.runtime: Runtime = make_runtime(settings, ())
        migrate(self.runtime.engine, settings.db_schema)
        create_tables(self.runtime.engine, settings)

    def close(self) -> None:
        self.runtime.close()

    # What the owner does

    def place(self, *orders: Order) -> list[UUID]:
        """Accept these orders, as a web request would."""
        with self.runtime.engine.begin() as connection:
            return self.runtime.start_many(connection, SAGA, orders)

    def start_worker(self, module: str = "worker", **environment: str) -> Any:
        """Start a worker: a `dramatiq` command of two processes."""
        paths = os.pathsep.join([str(HERE), str(ROOT)])
        return self._start_group(
            f"{module}:broker",
            self.settings,
            processes=2,
            threads=2,
            environment={"PYTHONPATH": paths, "SAGA_GRACE": "0.3", **environment},
        )

    # What the owner waits for

    def wait_until_over(self, seconds: float = 120.0) -> None:
        """Wait until no order is under way and nobody has anything left to do."""
        self._eventually(
            lambda: self.under_way() == 0 and not self.count("inbox", "state = 'pending'"),
            seconds,
            "all orders to be over",
        )

    def wait_until(self, condition: Callable[[], Any], what: str) -> None:
        self._eventually(condition, 120.0, what)

    # What the owner sees

    def under_way(self) -> int:
        return self.count("saga", "status IN ('running', 'compensating')")

    def over(self) -> int:
        return self.count("saga", "finished_at IS NOT NULL")

    def count(self, table: str, condition: str = "true") -> int:
        ((found,),) = self.query(f"SELECT count(*) FROM {table} WHERE {condition}")
        return int(found)

    def statuses(self) -> Counter[str]:
        return Counter(status for (status,) in self.query("SELECT status FROM saga"))

    def status(self, id: UUID) -> str:
        return str(self.query("SELECT status FROM saga WHERE id = %s", id)[0][0])

    def reason(self, id: UUID) -> str:
        return str(self.query("SELECT reason FROM saga WHERE id = %s", id)[0][0])

    def entries(self, number: int) -> tuple[str, ...]:
        """What the ledger holds for an order, sorted; a double effect is there twice."""
        rows = self.query("SELECT what FROM ledger WHERE number = %s ORDER BY what", number)
        return tuple(what for (what,) in rows)

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        options = f"-c search_path={self.settings.db_schema}"
        with psycopg.connect(self._url, autocommit=True, options=options) as connection:
            return connection.execute(sql, parameters).fetchall()

    # What must hold in the end

    def check_books(self, expected: dict[int, tuple[str, ...]]) -> None:
        """Every order's effects are in the ledger, exactly once, and nothing else is."""
        found: dict[int, list[str]] = {number: [] for number in expected}
        for number, what in self.query("SELECT number, what FROM ledger ORDER BY what"):
            found[number].append(what)
        wrong = {n: found[n] for n, entries in expected.items() if found[n] != list(entries)}
        assert wrong == {}
        taken = sum(("reserved" in e) - ("released" in e) for e in expected.values())
        assert self.query('SELECT "left" FROM shelf') == [(STOCK - taken,)]
        assert self.count("inbox", "state <> 'done'") == 0
        self.runtime.engine.dispose()  # Postgres may be another one than before
        with self.runtime.engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            assert list(differences(unit, self.runtime.statements, self.runtime.sagas)) == []


@pytest.fixture
def shop(
    empty_settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Shop]:
    """A shop on the servers that all tests share."""
    opened = Shop(empty_settings, start_group, eventually)
    yield opened
    opened.close()


@pytest.fixture
def own_shop(
    own_servers: EmbeddedServers, start_group: Callable[..., Any], eventually: Callable[..., Any]
) -> Iterator[Shop]:
    """A shop on servers of its own, of which Redis may be wiped and killed."""
    opened = Shop(_settings(own_servers), start_group, eventually)
    yield opened
    opened.close()


@pytest.fixture
def durable_shop(
    durable_servers: EmbeddedServers,
    start_group: Callable[..., Any],
    eventually: Callable[..., Any],
) -> Iterator[Shop]:
    """A shop on servers of its own, of which Postgres may be killed too."""
    opened = Shop(_settings(durable_servers), start_group, eventually)
    yield opened
    opened.close()


def _settings(servers: EmbeddedServers) -> Settings:
    return Settings(database_url=servers.database_url, redis_url=servers.redis_url)
