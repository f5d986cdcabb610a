"""Endurance: whether a system at full load grows fat or slow.

    python -m benchmarks.endurance [--seconds N] [--processes N] [--json]

Sagas are started as fast as they are done, a few hundred at a time, and twelve times in the run it
is told: sagas a second, dead rows, sizes of tables and of their indexes for each finished saga, runs
of autovacuum, and how long a look for what is due takes, as a claim looks.  The figures go to
`benchmarks/results/endurance.md`.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg

from benchmarks.measuring import percentile
from benchmarks.meter import Meter
from benchmarks.peers.peer import database_url
from benchmarks.servers import own_schema, worker
from benchmarks.workload import ORDER, Order, build_runtime
from boundary import Runtime
from internals.ids import uuid7

RESULTS = Path(__file__).parent / "results" / "endurance.md"

#: How often it is told how it is.
SLICES = 12
#: Sagas that one transaction starts, and that are under way at most before it does.
_PORTION = 200
_UNDER_WAY = 600
#: Looks for what is due, in each slice.
_LOOKS = 200

_UNFINISHED = "SELECT count(*) FROM {schema}.saga WHERE finished_at IS NULL"
_FINISHED = "SELECT count(*) FROM {schema}.saga WHERE finished_at IS NOT NULL"
_DUE = """
SELECT message_id FROM {schema}.inbox
WHERE consumer = 'first' AND state = 'pending' AND due_at <= now() ORDER BY due_at LIMIT 64
"""
_TABLES = """
SELECT coalesce(sum(n_dead_tup), 0), coalesce(sum(n_live_tup), 0),
    sum(pg_table_size(relid)), sum(pg_indexes_size(relid)), sum(autovacuum_count)
FROM pg_stat_user_tables
WHERE schemaname = %s AND relname IN ('saga', 'outbox', 'inbox', 'settling')
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """One twelfth of the run."""

    #: Seconds since its begin.
    at: float
    sagas_per_second: float
    #: Dead rows for each live one.
    dead_share: float
    table_bytes_per_saga: float
    index_bytes_per_saga: float
    autovacuums: int
    due_p50_ms: float
    due_p99_ms: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, write its results and print them."""
    options = _parser().parse_args(arguments)
    with own_schema() as settings, Meter(settings) as meter:
        runtime = build_runtime(settings)
        try:
            with worker(settings, options.processes, 8) as running:
                running.wait_for(meter.sessions, every=0.01, seconds=60)
                with psycopg.connect(database_url(settings), autocommit=True) as connection:
                    slices = list(_slices(runtime, connection, options.seconds))
        finally:
            runtime.close()
    document = {
        "seconds": options.seconds,
        "processes": options.processes,
        "slices": [asdict(each) for each in slices],
    }
    RESULTS.write_text(_table(options.seconds, options.processes, slices))
    sys.stdout.write(json.dumps(document, indent=2) + "\n" if options.json else RESULTS.read_text())


def _slices(
    runtime: Runtime, connection: psycopg.Connection[tuple[object, ...]], seconds: float
) -> Iterator[Slice]:
    schema = runtime.settings.db_schema
    began = time.monotonic()
    before, since = 0, began
    for number in range(1, SLICES + 1):
        until = began + seconds * number / SLICES
        while time.monotonic() < until:
            if _number(connection, _UNFINISHED, schema) >= _UNDER_WAY:
                time.sleep(0.01)
                continue
            orders = [Order(order_id=uuid7()) for _ in range(_PORTION)]
            with runtime.engine.begin() as started:
                runtime.start_many(started, ORDER, orders)
        looks = [_timed(connection, _DUE.format(schema=schema)) for _ in range(_LOOKS)]
        done, now = _number(connection, _FINISHED, schema), time.monotonic()
        connection.execute("SELECT pg_stat_force_next_flush()")
        row = connection.execute(_TABLES.encode(), [schema]).fetchone()
        assert row is not None
        dead, live, tables, indexes, vacuums = (float(str(value)) for value in row)
        yield Slice(
            at=round(now - began, 1),
            sagas_per_second=round((done - before) / (now - since), 1),
            dead_share=round(dead / max(live, 1), 3),
            table_bytes_per_saga=round(tables / max(done, 1)),
            index_bytes_per_saga=round(indexes / max(done, 1)),
            autovacuums=int(vacuums),
            due_p50_ms=round(percentile(looks, 0.5) * 1000, 2),
            due_p99_ms=round(percentile(looks, 0.99) * 1000, 2),
        )
        before, since = done, now


def _number(connection: psycopg.Connection[tuple[object, ...]], statement: str, schema: str) -> int:
    row = connection.execute(statement.format(schema=schema).encode()).fetchone()
    assert row is not None
    return int(str(row[0]))


def _timed(connection: psycopg.Connection[tuple[object, ...]], statement: str) -> float:
    began = time.perf_counter()
    connection.execute(statement.encode()).fetchall()
    return time.perf_counter() - began


def _table(seconds: float, processes: int, slices: Sequence[Slice]) -> str:
    names = list(asdict(slices[0]))
    lines = [
        "# Endurance",
        "",
        f"Written by `python -m benchmarks.endurance`: {seconds:,.0f} s at full load, "
        f"{processes} worker process(es) of 8 threads.",
        "",
        f"| {' | '.join(name.replace('_', ' ') for name in names)} |",
        f"|{'---:|' * len(names)}",
        *(f"| {' | '.join(f'{value:,}' for value in asdict(s).values())} |" for s in slices),
    ]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.endurance", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seconds", type=float, default=3600, help="of load")
    parser.add_argument("--processes", type=int, default=2, help="worker processes")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
