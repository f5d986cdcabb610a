"""DBOS as a peer: it keeps its state in Postgres, as we do, and runs in the caller's process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import make_url

from benchmarks.peers.peer import database_url, ledger
from benchmarks.peers.program import Program, program
from boundary import Settings


@dataclass(frozen=True, slots=True)
class DbosPeer:
    """One process of eight threads."""

    name: str = "dbos"
    configuration: str = "8 threads in process; idle over its queue, polled every 20 ms"
    share: float = 0.2

    @contextmanager
    def run(self, settings: Settings) -> Iterator[Program]:
        assert settings.database_url is not None
        url = make_url(settings.database_url.get_secret_value()).set(drivername="postgresql")
        schema = f"{settings.db_schema}_dbos"
        environment = {
            "BENCH_DATABASE_URL": database_url(settings),
            "BENCH_SYSTEM_URL": url.render_as_string(hide_password=False),
            "BENCH_SYSTEM_SCHEMA": schema,
        }
        try:
            with program("benchmarks.peers.dbos_program", environment) as running:
                yield running
        finally:
            with ledger(settings) as connection:
                connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE'.encode())
