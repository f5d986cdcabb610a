"""Profile: what holds the throughput, and what holds the latency.

    python -m benchmarks.profiling [--sagas N] [--json]

Busy: a process's hops over many sagas, one thread, under `cProfile` on that thread's CPU clock, so
that waiting for Postgres is no part of it.  The profiler makes calls dear, and so small functions:
the shares say where to look, and not what a saga costs.

Idle: sagas one at a time on a real worker, and from its own record how long each delivery was on
its way, which is the commit that sent it, its doorbell and the beginning of its transaction; how long
its claim and all that is written took; and its handler.  Beside it how long this machine takes to commit
one row.

The tables go to `benchmarks/results/profile.md`.
"""

import argparse
import cProfile
import json
import pstats
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg

from benchmarks.measuring import percentile
from benchmarks.peers.peer import database_url
from benchmarks.peers.saga_peer import SagaPeer
from benchmarks.servers import own_schema
from benchmarks.workload import ORDER, Order, build_runtime
from boundary import Settings
from internals.ids import uuid7

RESULTS = Path(__file__).parent / "results" / "profile.md"

_ROOT = Path(__file__).parents[1]

#: Whose code it is, by what its file's path, or a built-in function's name, has in it; the first that fits.
_OWNERS = (
    ("decide and definitions (saga/)", f"{_ROOT}/saga/"),
    ("hop, inbox, outbox (internals/)", f"{_ROOT}/internals/"),
    ("orchestrator (boundary/)", f"{_ROOT}/boundary/"),
    ("the handlers themselves", f"{_ROOT}/benchmarks/"),
    ("psycopg", "psycopg"),
    ("SQLAlchemy", "sqlalchemy"),
    ("pydantic", "pydantic"),
    ("pydantic", "SchemaValidator"),
    ("pydantic", "SchemaSerializer"),
    ("json", "json"),
    ("Redis and Dramatiq", "redis"),
    ("Redis and Dramatiq", "dramatiq"),
)
_OTHER = "the rest of Python: threading, logging, datetime, uuid"

#: Where the time of a delivery goes.
_PARTS = ("on_its_way_ms", "hop_ms", "handler_ms")

_COMMIT = "one row, inserted and committed"

_LEGS = """
SELECT o.kind, i.consumer,
       extract(epoch FROM coalesce(i.claimed_at, i.done_at) - o.sent_at) * 1000,
       coalesce(extract(epoch FROM i.done_at - i.claimed_at) - coalesce(i.took, 0), 0) * 1000,
       coalesce(i.took, 0) * 1000
FROM {schema}.inbox i JOIN {schema}.outbox o ON o.id = i.message_id
WHERE i.done_at IS NOT NULL AND o.category <> 'timeout'
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run both profiles, write their tables and print them."""
    options = _parser().parse_args(arguments)
    with own_schema() as settings:
        shares = _busy(settings, options.sagas)
    with own_schema() as settings:
        legs = _idle(settings, max(1, options.sagas // 10))
    RESULTS.write_text(_tables(options.sagas, shares, legs))
    document = {"busy": shares, "idle": legs}
    sys.stdout.write(json.dumps(document, indent=2) + "\n" if options.json else RESULTS.read_text())


def _busy(settings: Settings, sagas: int) -> dict[str, float]:
    """Return whose code takes which share of the CPU of a process's hops."""
    runtime = build_runtime(settings)
    try:
        runtime._administration.subscribe_once()
        _start(runtime, sagas // 10 or 1)
        _drain(runtime)
        _start(runtime, sagas)
        profile = cProfile.Profile(time.thread_time)
        profile.runcall(_drain, runtime)
    finally:
        runtime.close()
    spent: dict[str, float] = {}
    for owner, seconds in _owners(profile):
        spent[owner] = spent.get(owner, 0.0) + seconds
    total = sum(spent.values())
    by_share = sorted(spent.items(), key=lambda item: item[1], reverse=True)
    return {name: round(seconds / total, 3) for name, seconds in by_share}


def _idle(settings: Settings, sagas: int) -> dict[str, dict[str, float]]:
    """Return how long deliveries of each kind were in each of `_PARTS`; medians in ms.

    The row `_COMMIT` is how long one row takes to be inserted and committed.
    """
    found: dict[str, list[tuple[float, float, float]]] = {}
    with SagaPeer(1).run(settings) as running:
        running.idle(sagas, False)
        with psycopg.connect(database_url(settings)) as connection:
            legs = _LEGS.format(schema=settings.db_schema).encode()
            for kind, consumer, *parts in connection.execute(legs):
                way, hop, took = map(float, parts)
                found.setdefault(f"{kind} → {consumer}", []).append((way, hop, took))
        found[_COMMIT] = [(0.0, seconds * 1000, 0.0) for seconds in _commits(settings, sagas)]
    return {
        leg: {
            part: round(percentile(values, 0.5), 2)
            for part, values in zip(_PARTS, zip(*times, strict=True), strict=True)
        }
        for leg, times in found.items()
    }


def _commits(settings: Settings, count: int) -> Iterator[float]:
    """Yield the seconds of so many transactions that insert a row."""
    insert = f"INSERT INTO {settings.db_schema}.effect VALUES (%s, %s, 'commit')".encode()
    with psycopg.connect(database_url(settings), autocommit=True) as connection:
        for _ in range(count):
            began = time.perf_counter()
            connection.execute(insert, [uuid7(), uuid7()])
            yield time.perf_counter() - began


def _start(runtime: Any, count: int) -> None:
    with runtime.engine.begin() as connection:
        orders = [Order(order_id=uuid7()) for _ in range(count)]
        runtime.start_many(connection, ORDER, orders)


def _drain(runtime: Any) -> None:
    while sum(runtime.answer(consumer, follow=True) for consumer in runtime._wiring.consumers):
        pass


def _owners(profile: cProfile.Profile) -> Iterator[tuple[str, float]]:
    """Yield whose code ran and for how many seconds; a built-in function is its callers'."""
    read: Any = pstats.Stats(profile)
    for (file, _, function), (_, _, own, _, callers) in read.stats.items():
        if file != "~" or _owner(function) != _OTHER or not callers:
            yield _owner(function if file == "~" else file), own
            continue
        for (caller, _, name), (_, _, part, _) in callers.items():
            yield _owner(name if caller == "~" else caller), part


def _owner(where: str) -> str:
    return next((owner for owner, part in _OWNERS if part in where), _OTHER)


def _tables(sagas: int, shares: dict[str, float], legs: dict[str, dict[str, float]]) -> str:
    lines = [
        "# Profile",
        "",
        "Written by `python -m benchmarks.profiling`.",
        "",
        f"## Busy: {sagas:,} sagas, the CPU of one thread's hops",
        "",
        "| whose code | share |",
        "|---|---:|",
        *(f"| {name} | {share:.0%} |" for name, share in shares.items()),
        "",
        f"## Idle: {max(1, sagas // 10):,} sagas one at a time, medians in milliseconds",
        "",
        "| delivery | on its way | claim, and what is written | handler |",
        "|---|---:|---:|---:|",
        *(
            f"| {leg} | " + " | ".join(str(times[part]) for part in _PARTS) + " |"
            for leg, times in legs.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profiling", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--sagas", type=int, default=2000, help="of the busy half")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
