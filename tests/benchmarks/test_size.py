"""The benchmark of size: what it fills the tables with is what sagas leave, and all of it is measured."""

import json
from typing import Any

import pytest

from benchmarks import size


def test_an_empty_and_a_full_database_are_measured(
    servers: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAGA_DATABASE_URL", servers.database_url)
    monkeypatch.setenv("SAGA_REDIS_URL", servers.redis_url)
    filled: list[int] = []
    fill = size._fill

    def count(connection: Any, statement: str, rows: int) -> None:
        fill(connection, statement, rows)
        (found,) = connection.execute("SELECT count(*) FROM inbox").fetchone()
        filled.append(found)

    monkeypatch.setattr(size, "_fill", count)
    size.main(["--finished", "30", "--waiting", "20", "--sagas", "4", "--json"])
    found = json.loads(capsys.readouterr().out)
    # Five sagas were run before at once and two one by one, of seven deliveries each.
    assert filled == [7 * 7 + 30 * 7, 7 * 7 + 30 * 7 + 20]
    for state in ("empty", "full"):
        assert found[state]["sagas_per_second"] > 0
        assert found[state]["python_cpu_ms"] > 0
        assert found[state]["p99_ms"] >= found[state]["p50_ms"] > 0
