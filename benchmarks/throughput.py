"""Throughput and latency: ours beside plain Dramatiq, DBOS and Temporal, on the same servers, in turns.

    python -m benchmarks.throughput [--quick] [--json]

The saga has three steps in three contexts, each of which inserts a row; in `undone` the third refuses
and two are undone.  Busy, all sagas are started at once; idle, one after the other.  Each peer's best
configuration is found first; then all peers take turns, and the medians count.  After each run the
ledger must hold each effect exactly once, whoever did it.

The figures go to `benchmarks/results/`: `latest.json`, `latest.md` and `latest.png`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.measuring import Measured, Size, busy_per_second, measure
from benchmarks.meter import Meter
from benchmarks.peers.dramatiq_peer import DramatiqPeer
from benchmarks.peers.peer import Lost, Peer
from benchmarks.peers.saga_peer import SagaPeer
from benchmarks.peers.temporal_peer import TemporalPeer, temporal_binary
from benchmarks.report import describe_machine
from benchmarks.results import Results
from benchmarks.servers import own_schema
from boundary import Settings

RESULTS = Path(__file__).parent / "results"

QUICK = Size(busy=1500, idle=60, repeats=3)
WHOLE = Size(busy=3000, idle=200, repeats=5)
#: Enough to tell a good configuration from a bad one.
TRIAL = Size(busy=1000, idle=0, repeats=1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, write its results and print them."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        results = run(QUICK if options.quick else WHOLE, say=console.print)
    except (Lost, RuntimeError) as error:
        sys.exit(f"Error: {error}")
    results.write(RESULTS)
    if options.json:
        sys.stdout.write(results.json())
    else:
        results.print(Console())


def run(
    size: Size,
    trial: Size = TRIAL,
    peers: Sequence[Sequence[Peer]] | None = None,
    say: object = print,
) -> Results:
    """Measure all peers and return what they came to.

    Args:
        size: Of each run, and how often.
        trial: Of the runs that choose among the configurations of a peer.
        peers: The configurations of each; all that are installed if not given.
        say: Called with a line about the progress.
    """
    assert callable(say)
    chosen = [_best(of_one, trial, say) for of_one in peers or _installed(say)]
    measured = {peer.name: Measured(peer.configuration) for peer in chosen}
    with own_schema() as settings, Meter(settings) as meter:
        assert settings.redis_url is not None
        about = describe_machine(meter, settings.redis_url.get_secret_value())
    for repeat in range(size.repeats):
        for peer in chosen:
            say(f"{repeat + 1} of {size.repeats}: {peer.name}")
            with own_schema() as settings:
                measured[peer.name].runs.append(measure(peer, settings, size))
    return Results(about, size, measured)


def _best(configurations: Sequence[Peer], trial: Size, say: object) -> Peer:
    assert callable(say)
    if len(configurations) == 1:
        return configurations[0]
    rated: list[tuple[float, Peer]] = []
    for peer in configurations:
        with own_schema() as settings:
            rated.append((_rate(peer, settings, trial), peer))
        say(f"{peer.name}, {peer.configuration}: {rated[-1][0]:,.0f} a second")
    return max(rated, key=lambda each: each[0])[1]


def _rate(peer: Peer, settings: Settings, trial: Size) -> float:
    return busy_per_second(peer, settings, trial)


def _installed(say: object) -> list[list[Peer]]:
    assert callable(say)
    found: list[list[Peer]] = [
        [SagaPeer(processes) for processes in (1, 2)],
        [DramatiqPeer(processes, prefetch) for processes in (1, 2) for prefetch in (64, 256)],
    ]
    try:
        import dbos  # noqa: F401, PLC0415 - only to see whether it is there

        from benchmarks.peers.dbos_peer import DbosPeer  # noqa: PLC0415
    except ImportError:
        say("DBOS is left out: it is not installed (pip install '.[bench]')")
    else:
        found.append([DbosPeer()])
    try:
        import temporalio  # noqa: F401, PLC0415 - only to see whether it is there
    except ImportError:
        say("Temporal is left out: it is not installed (pip install '.[bench]')")
    else:
        if temporal_binary() is None:
            say(
                "Temporal is left out: its command `temporal`, which has the dev server, is not there"
            )
        else:
            found.append([TemporalPeer()])
    return found


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="in five minutes")
    parser.add_argument("--json", action="store_true", help="print latest.json")
    return parser


if __name__ == "__main__":
    main()
