"""Processes: the same sagas with 1, 2 and 4 worker processes, and what they wait for.

    python -m benchmarks.processes [--sagas N] [--repeats N] [--json]

Sagas a second, CPU of the workers and of Postgres, commits and WAL a saga, and the shares of what
Postgres' sessions were seen waiting for.  Medians of some runs in turns; the table goes to
`benchmarks/results/processes.md`.
"""

import argparse
import json
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import psycopg

from benchmarks.measuring import Size, busy_figures
from benchmarks.peers.peer import database_url
from benchmarks.peers.saga_peer import SagaPeer
from benchmarks.servers import APPLICATION, own_schema
from boundary import Settings

RESULTS = Path(__file__).parent / "results" / "processes.md"

COUNTS = (1, 2, 4)

#: Seconds between two looks at what sessions wait for.
_PAUSE = 0.02

_WAITS = """
SELECT coalesce(wait_event_type || ':' || wait_event, 'running') FROM pg_stat_activity
WHERE application_name = %s AND state = 'active' AND pid <> pg_backend_pid()
"""

_FIGURES = ("ok_per_second", "worker_cpu_ms", "postgres_cpu_ms", "commits_per_saga",
            "wal_bytes_per_saga")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, write its table and print it."""
    options = _parser().parse_args(arguments)
    runs: dict[int, list[dict[str, float]]] = {count: [] for count in COUNTS}
    waits: dict[int, Counter[str]] = {count: Counter() for count in COUNTS}
    size = Size(busy=options.sagas, idle=0, repeats=1)
    for _ in range(options.repeats):
        for count in COUNTS:
            with own_schema() as settings, _watching(settings, waits[count]):
                runs[count].append(busy_figures(SagaPeer(count), settings, size))
    found = {
        count: {
            **{name: round(median(run[name] for run in runs[count]), 3) for name in _FIGURES},
            "waits": _shares(waits[count]),
        }
        for count in COUNTS
    }
    RESULTS.write_text(_table(options, found))
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else RESULTS.read_text())


@contextmanager
def _watching(settings: Settings, seen: "Counter[str]") -> Iterator[None]:
    """Count what the sessions of this database are seen waiting for."""
    stop = threading.Event()

    def look() -> None:
        with psycopg.connect(database_url(settings), autocommit=True) as connection:
            while not stop.wait(_PAUSE):
                seen.update(str(row[0]) for row in connection.execute(_WAITS, [APPLICATION]))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        stop.set()
        looking.join()


def _shares(seen: "Counter[str]") -> str:
    """The most frequent waits, with their shares of what was seen."""
    total = sum(seen.values()) or 1
    return ", ".join(f"{name} {n / total:.0%}" for name, n in seen.most_common(4))


def _table(options: argparse.Namespace, found: dict[int, dict[str, object]]) -> str:
    names = [*_FIGURES, "waits"]
    lines = [
        "# Processes",
        "",
        f"Written by `python -m benchmarks.processes`: {options.sagas:,} sagas at once, medians of "
        f"{options.repeats} runs in turns.",
        "",
        f"| processes | {' | '.join(name.replace('_', ' ') for name in names)} |",
        f"|{'---:|' * (len(names) + 1)}",
        *(
            f"| {count} | {' | '.join(str(found[count][name]) for name in names)} |"
            for count in COUNTS
        ),
    ]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.processes", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--sagas", type=int, default=2000, help="of each run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
