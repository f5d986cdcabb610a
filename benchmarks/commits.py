"""How many commits a delivery costs, on a real worker over real servers.

    python -m benchmarks.commits [--json]

The saga has three steps in three contexts, and each inserts a row: six deliveries.  In `undone`
the third refuses and two are undone: ten.  `idle` runs one saga at a time and waits for its end;
`busy` starts all of them in one transaction.

Commits are the difference in `pg_stat_database.xact_commit`, less the measuring connection's own.
The transactions that start the sagas count for the saga, not for a delivery.  A session reports
late, and for good when it ends: so each scenario has a worker of its own, and the count is read
after that has stopped.  It covers the whole life of the worker, warming up included, which is the
same load in small; sagas a second and latencies are those of the warm worker.

A worker without sagas commits too: its relay looks for late deliveries, about twice a second.
That rate is measured first and taken off.  A relay does not look while doorbells wait, so a busy
scenario may come out a few commits too low.  Autovacuum commits as well, and so does whoever else
uses the database; the report says if somebody was there.

Statements are counted where the extension pg_stat_statements is at work, `BEGIN` and `COMMIT`
among them; a `SAVEPOINT` that the driver has prepared escapes it.  A latency is what a caller
waits for: from before the transaction that starts the saga until a look, one every millisecond,
shows its end.

The servers are those of `SAGA_DATABASE_URL` and `SAGA_REDIS_URL`, or embedded ones.  Everything
happens in a schema and a namespace of the run's own, which are dropped at the end.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from rich.console import Console

from benchmarks.load import Load
from benchmarks.meter import Counts, Meter
from benchmarks.report import Report, Row, describe_machine
from benchmarks.servers import own_schema, worker
from benchmarks.workload import build_runtime
from boundary import Settings

#: Seconds for which a worker has nothing to do.
_QUIET = 5.0

#: Seconds that a worker may take to come up.
_BOOT = 60.0

#: Whether the third step refuses, and its name in the report.
_KINDS = ((False, "ok"), (True, "undone"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark and print its figures."""
    options = _parser().parse_args(arguments)
    report = run(options.busy, options.idle, options.processes, options.threads)
    if options.json:
        sys.stdout.write(json.dumps(report.as_json(), indent=2) + "\n")
    else:
        report.print(Console())


def run(busy: int, idle: int, processes: int = 1, threads: int = 8) -> Report:
    """Measure all scenarios and return the figures.

    Args:
        busy: Sagas that are started at once.
        idle: Sagas that run one by one.
        processes, threads: Of the worker, as on `dramatiq`'s command line.
    """
    with own_schema() as settings, Meter(settings) as meter:
        assert settings.redis_url is not None
        machine = describe_machine(meter, settings.redis_url.get_secret_value())
        strangers = meter.strangers()
        bench = _Bench(settings, meter, processes, threads)
        quiet = bench.measure(_do_nothing)
        relay = quiet.counts * (1 / quiet.life)
        rows = []
        for refused, kind in _KINDS:
            idle_load = partial(_one_by_one, sagas=idle, refused=refused)
            rows.append(bench.row(f"{kind}, idle", idle_load, relay))
            busy_load = partial(_all_at_once, sagas=busy, refused=refused)
            rows.append(bench.row(f"{kind}, busy", busy_load, relay))
        workers = f"Worker processes: {processes}, threads in each: {threads}"
        return Report(machine, workers, relay.commits, rows, max(strangers, meter.strangers()))


@dataclass(frozen=True, slots=True)
class _Result:
    """What a load came to."""

    sagas: int = 0
    warmers: int = 0
    #: Transactions that started them.
    starts: int = 0
    seconds: float = 0.0
    latencies: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class _Spell:
    """What one worker did from its start to its end."""

    result: _Result
    counts: Counts
    #: Seconds for which its relay ran.
    life: float


@dataclass(frozen=True, slots=True)
class _Bench:
    """What all scenarios have in common."""

    settings: Settings
    meter: Meter
    processes: int
    threads: int

    def row(self, name: str, work: Callable[[Load], _Result], relay: Counts) -> Row:
        """Measure one scenario."""
        spell = self.measure(work)
        result = spell.result
        return Row(
            scenario=name,
            sagas=result.sagas,
            seconds=result.seconds,
            all_sagas=result.sagas + result.warmers,
            starts=result.starts,
            counts=spell.counts - relay * spell.life,
            latencies=result.latencies,
        )

    def measure(self, work: Callable[[Load], _Result]) -> _Spell:
        """Start a worker, let it do this work, and stop it."""
        runtime = build_runtime(self.settings)
        before = self.meter.counts()
        try:
            with worker(self.settings, self.processes, self.threads) as running:
                # A relay connects at once, before anything else does.
                running.wait_for(self.meter.sessions, every=0.01, seconds=_BOOT)
                began = time.perf_counter()
                result = work(Load(runtime, self.meter, running))
                life = time.perf_counter() - began
        finally:
            runtime.close()
        return _Spell(result, self.meter.counts() - before, life)


def _do_nothing(_: Load) -> _Result:
    time.sleep(_QUIET)
    return _Result()


def _one_by_one(load: Load, sagas: int, refused: bool) -> _Result:
    warmers = max(sagas // 5, 1)
    load.one_by_one(warmers, refused)
    began = time.perf_counter()
    _, latencies = load.one_by_one(sagas, refused)
    seconds = time.perf_counter() - began
    return _Result(sagas, warmers, sagas + warmers, seconds, latencies)


def _all_at_once(load: Load, sagas: int, refused: bool) -> _Result:
    warmers = max(sagas // 10, 1)
    load.all_at_once(warmers, refused)
    began = time.perf_counter()
    load.all_at_once(sagas, refused)
    return _Result(sagas, warmers, 2, time.perf_counter() - began)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.commits", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--busy", type=int, default=2000, help="sagas started at once")
    parser.add_argument("--idle", type=int, default=100, help="sagas run one by one")
    parser.add_argument("--processes", type=int, default=1, help="of the worker")
    parser.add_argument("--threads", type=int, default=8, help="of each process")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
