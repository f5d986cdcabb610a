"""An application as its owner sees it: work goes in, workers come and go, and the end is checked."""

from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg

from boundary import Runtime, Settings
from boundary.operations.consistency import differences
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from saga import Saga
from tests.schemas import make_schema


class House:
    """A runtime with its own schema, and with workers as real processes."""

    #: The module that makes the runtime and the tables.
    application: Any
    #: The module of the worker.
    worker: str

    def __init__(
        self, settings: Settings, start_group: Callable[..., Any], eventually: Callable[..., Any]
    ) -> None:
        assert settings.database_url is not None
        self.settings = settings
        self._start_group = start_group
        self._eventually = eventually
        self._url = settings.database_url.get_secret_value().replace("+psycopg", "")
        self.runtime: Runtime = self.application.make_runtime(settings, ())
        make_schema(self.runtime.engine, settings.db_schema)
        self.application.create_tables(self.runtime.engine, settings)

    def close(self) -> None:
        self.runtime.close()

    # What the owner does

    def start(self, saga: Saga[Any], *items: Any) -> list[UUID]:
        """Start a saga for each item, as a web request would."""
        with self.runtime.engine.begin() as connection:
            return list(self.runtime.start_many(connection, saga, items))

    def start_worker(
        self,
        module: str | None = None,
        *,
        processes: int = 2,
        threads: int = 2,
        **environment: str,
    ) -> Any:
        """Start a worker: a `dramatiq` command, of two processes if nothing else is said."""
        return self._start_group(
            f"tests.scenarios.{module or self.worker}:broker",
            self.settings,
            processes=processes,
            threads=threads,
            environment={"SAGA_GRACE": "0.3", **environment},
        )

    # What the owner waits for

    def wait_until_over(self, seconds: float = 120.0) -> None:
        """Wait until no saga is under way and nobody has anything left to do."""
        self._eventually(
            lambda: self.under_way() == 0 and not self.count("inbox", "state = 'pending'"),
            seconds,
            "all sagas to be over",
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

    def query(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        options = f"-c search_path={self.settings.db_schema}"
        with psycopg.connect(self._url, autocommit=True, options=options) as connection:
            cursor = connection.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []

    # What must hold in the end

    def check_history(self) -> None:
        """Each saga is what the messages that it consumed lead to."""
        self.runtime.engine.dispose()  # Postgres may be another one than before
        with self.runtime.engine.begin() as connection:
            unit = SqlAlchemyUnitOfWork(connection)
            assert (
                list(differences(unit, self.runtime._wiring.statements, self.runtime._wiring.sagas))
                == []
            )
