"""Measuring: one run of one peer, as figures."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from uuid import UUID

import psutil
import psycopg

from benchmarks.peers.peer import Ledger, Peer, Running, family, ledger
from boundary import Settings

#: The figures that are told of each peer, each the median of the repeats.
FIGURES = (
    "ok_per_second",
    "undone_per_second",
    "ok_p50_ms",
    "ok_p99_ms",
    "undone_p50_ms",
    "undone_p99_ms",
    "commits_per_saga",
    "cpu_ms_per_saga",
)
#: More that is told in the report.
DETAILS = ("wal_bytes_per_saga", "worker_cpu_ms", "postgres_cpu_ms", "starter_cpu_ms")


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: sagas at once, one by one, and how often all of it."""

    busy: int
    idle: int
    repeats: int

    def of(self, peer: Peer) -> "Size":
        """Return what this peer is given: fewer where it is slow."""
        idle = self.idle * min(1.0, 5 * peer.share)
        return Size(max(1, int(self.busy * peer.share)), max(1, int(idle)), self.repeats)


@dataclass(slots=True)
class Measured:
    """What all repeats of one peer came to."""

    configuration: str
    runs: list[dict[str, float]] = field(default_factory=list)

    def median(self, figure: str) -> float:
        return round(median(run[figure] for run in self.runs), 3)

    def figures(self) -> dict[str, float]:
        """Return exactly the figures of `FIGURES`."""
        return {figure: self.median(figure) for figure in FIGURES}


def measure(peer: Peer, settings: Settings, size: Size) -> dict[str, float]:
    """Run a peer twice, for throughput and for the rest, and return its figures.

    Raises `Lost` if an effect is missing or there twice.
    """
    size = size.of(peer)
    with ledger(settings) as connection:
        check = Ledger(connection).check
        found = _throughput(peer, settings, size, connection)
        with peer.run(settings) as running:
            running.busy(size.busy // 10 or 1, True)
            began = time.perf_counter()
            orders = running.busy(size.busy, True)
            found["undone_per_second"] = size.busy / (time.perf_counter() - began)
            check(orders, True)
            for refused, kind in ((False, "ok"), (True, "undone")):
                check(running.idle(size.idle // 10 or 1, refused)[0], refused)
                orders, seconds = running.idle(size.idle, refused)
                check(orders, refused)
                found[f"{kind}_p50_ms"] = percentile(seconds, 0.50) * 1000
                found[f"{kind}_p99_ms"] = percentile(seconds, 0.99) * 1000
    return found


def busy_figures(peer: Peer, settings: Settings, size: Size) -> dict[str, float]:
    """Run a peer for throughput alone, and return all figures of that.

    Raises `Lost` if an effect is missing or there twice.
    """
    with ledger(settings) as connection:
        return _throughput(peer, settings, size.of(peer), connection)


def busy_per_second(peer: Peer, settings: Settings, size: Size) -> float:
    """Return the throughput alone, to choose a configuration by."""
    size = size.of(peer)
    with peer.run(settings) as running:
        return size.busy / _timed(lambda: running.busy(size.busy, False))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values do not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _throughput(
    peer: Peer, settings: Settings, size: Size, connection: psycopg.Connection[tuple[object, ...]]
) -> dict[str, float]:
    """All sagas at once.  What Postgres counted is read before the peer starts and after it has
    ended, since a session reports for good when it ends: so it is that of the warming up too."""
    warmers = size.busy // 10 or 1
    commits, wal = _commits(connection), _wal(connection)
    with peer.run(settings) as running:
        running.busy(warmers, False)
        found = busy_spell(running, size.busy, connection)
    sagas = size.busy + warmers
    return {
        **found,
        "commits_per_saga": (_commits(connection) - commits) / sagas,
        "wal_bytes_per_saga": (_wal(connection) - wal) / sagas,
    }


def busy_spell(
    running: Running,
    count: int,
    connection: psycopg.Connection[tuple[object, ...]],
    refused: bool = False,
) -> dict[str, float]:
    """Let a peer that is warm do so many sagas at once: how many a second, and the CPU of each.

    Raises `Lost` if an effect is missing or there twice.
    """
    cpu = _cpu(running, connection)
    began = time.perf_counter()
    orders = running.busy(count, refused)
    seconds = time.perf_counter() - began
    spent = [(b - a) / count * 1000 for a, b in zip(cpu, _cpu(running, connection))]  # noqa: B905
    Ledger(connection).check(orders, refused)
    return {
        "ok_per_second": count / seconds,
        "worker_cpu_ms": spent[0],
        "postgres_cpu_ms": spent[1],
        "starter_cpu_ms": spent[2],
        "cpu_ms_per_saga": sum(spent),
    }


def _timed(call: Callable[[], Sequence[UUID]]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _commits(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    connection.execute("SELECT pg_stat_force_next_flush()")
    return _number(
        connection,
        "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
    )


def _wal(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    return _number(connection, "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")


def _number(connection: psycopg.Connection[tuple[object, ...]], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(str(row[0]))


def postgres_seconds(connection: psycopg.Connection[tuple[object, ...]]) -> float:
    """Return the CPU that this connection's server has used; 0 if it is on another machine."""
    try:
        postmaster = psutil.Process(connection.info.backend_pid).parent()
    except psutil.Error:
        return 0.0
    return 0.0 if postmaster is None else sum(map(_seconds, family(postmaster)))


def _cpu(
    running: Running, connection: psycopg.Connection[tuple[object, ...]]
) -> tuple[float, float, float]:
    """Seconds of CPU so far: of the peer's processes, of Postgres', and of this one, which starts
    the sagas."""
    workers = sum(_seconds(one) for root in running.processes for one in family(root))
    return workers, postgres_seconds(connection), time.process_time()


def _seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.Error:  # it has ended
        return 0.0
    return float(times.user + times.system)
