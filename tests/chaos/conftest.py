"""A finished run without any fault, in this process: what the checker is shown to see through."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, create_engine
from sqlalchemy.engine import make_url

from boundary import Runtime, Settings
from tests.chaos.app import build_runtime
from tests.chaos.booking import CHAOS_TRIP
from tests.chaos.charging import GATEWAY
from tests.chaos.gateway import Gateway, read_calls
from tests.chaos.ledger import create_tables
from tests.chaos.subjects import Evidence
from tests.chaos.tally import Tally
from tests.chaos.trips import make_trips
from tests.schemas import drop_schema

#: Enough that every way to be refused is among them.
TRIPS = 80


class Finished:
    """A finished run: its evidence, and where its tables are."""

    def __init__(self, runtime: Runtime, evidence: Evidence) -> None:
        self.engine = runtime.engine
        self.schema = runtime.settings.db_schema
        self.evidence = evidence


@pytest.fixture(scope="module")
def finished(servers: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("gateway")
    name = f"saga_test_{uuid4().hex[:12]}"
    url = make_url(servers.database_url).update_query_dict({"options": f"-csearch_path={name}"})
    engine = create_engine(url)
    settings = Settings(
        database_url=url.render_as_string(hide_password=False),
        redis_url=servers.redis_url,
        db_schema=name,
        namespace=name,
    )
    runtime = build_runtime(settings, engine)
    gateway = Gateway(folder / "gateway.jsonl", Tally(folder), seed=1)
    serving = threading.Thread(target=gateway.serve_forever, args=(0.01,))
    serving.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(GATEWAY, gateway.url)
            yield Finished(runtime, _finish(runtime, folder / "gateway.jsonl"))
    finally:
        gateway.shutdown()
        serving.join()
        gateway.server_close()
        with engine.begin() as connection:
            drop_schema(connection, name)
        keys = list(runtime._wiring.broker.client.scan_iter(f"{name}:*"))  # type: ignore[union-attr]
        if keys:
            runtime._wiring.broker.client.delete(*keys)  # type: ignore[union-attr]
        runtime.close()
        engine.dispose()


@pytest.fixture
def scratch(finished: Finished) -> Iterator[Connection]:
    """A connection on which evidence may be tampered with: nothing of it stays."""
    with finished.engine.connect() as connection:
        yield connection
        connection.rollback()


def _finish(runtime: Runtime, log: Path) -> Evidence:
    trips = make_trips(TRIPS, seed=1)
    runtime.migrate()
    with runtime.engine.begin() as connection:
        create_tables(connection)
        ids = runtime.start_many(connection, CHAOS_TRIP, trips)
    while sum([runtime.answer(consumer) for consumer in runtime._wiring.consumers]):
        pass
    acknowledged = {trip.reference: id for trip, id in zip(trips, ids, strict=True)}
    return Evidence(trips, acknowledged, calls=tuple(read_calls(log)))
