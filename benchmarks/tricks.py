"""What each trick of the hop gains: the same load with it and without it, in turns, on the same servers.

    python -m benchmarks.tricks [--quick] [--only NAME] [--processes N] [--json]

For each trick, with one worker process and with two, two workers run in schemas of their own: one as it
is, one that does without the trick (`benchmarks.switches`).  A pair is a spell of each, busy and then
idle: sagas a second, CPU of Python and of Postgres a saga, and the p50 of sagas one by one.  Who begins
changes from pair to pair.  A gain is a pair's ratio, above 1 where the trick pays: of the pairs the
median, the least and the greatest are told.  After each spell the ledger must hold each effect exactly once.

The table goes to `benchmarks/results/tricks.md`.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
from rich.console import Console

from benchmarks.known_tricks import TRICKS, Trick
from benchmarks.measuring import Size, busy_spell, percentile
from benchmarks.meter import Meter
from benchmarks.peers.peer import Ledger, Lost, Running, ledger
from benchmarks.peers.saga_peer import SagaPeer
from benchmarks.report import describe_machine
from benchmarks.servers import own_schema
from benchmarks.workload import build_runtime
from boundary import Runtime, Settings

RESULTS = Path(__file__).parent / "results" / "tricks.md"

#: What tells the worker which trick it is about, and to do without it.
TRICK = "SAGA_BENCHMARK_TRICK"
OFF = "SAGA_BENCHMARK_OFF"

PROCESSES = (1, 2)

QUICK = Size(busy=300, idle=20, repeats=3)
WHOLE = Size(busy=500, idle=25, repeats=5)

#: Each figure, its head in the table, and whether more of it is better.
FIGURES = {
    "ok_per_second": ("sagas/s", True),
    "worker_cpu_ms": ("Python, ms a saga", False),
    "postgres_cpu_ms": ("Postgres, ms a saga", False),
    "p50_ms": ("one at a time, p50 ms", False),
}

_Spell = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, write its table and print it."""
    options = _parser().parse_args(arguments)
    chosen = {name: TRICKS[name] for name in options.only or TRICKS}
    say = Console(stderr=True, highlight=False).print
    try:
        size = QUICK if options.quick else WHOLE
        found = run(chosen, size, options.processes or PROCESSES, say)
    except (Lost, RuntimeError) as error:
        sys.exit(f"Error: {error}")
    figures = [compared.figures() for compared in found]
    sys.stdout.write(json.dumps(figures, indent=2) + "\n" if options.json else RESULTS.read_text())


@dataclass(slots=True)
class Compared:
    """One trick with so many processes: each pair is a spell with it and one without."""

    name: str
    processes: int
    pairs: list[tuple[_Spell, _Spell]] = field(default_factory=list)

    def medians(self, figure: str) -> tuple[float, float]:
        """Return those with the trick and without it."""
        return (
            median(with_it[figure] for with_it, _ in self.pairs),
            median(without[figure] for _, without in self.pairs),
        )

    def gains(self, figure: str) -> tuple[float, float, float]:
        """Return the median, the least and the greatest of the pairs' gains."""
        more = FIGURES[figure][1]
        ratios = sorted(
            a[figure] / b[figure] if more else b[figure] / a[figure]
            for a, b in self.pairs
            if a[figure] and b[figure]  # of a server elsewhere no CPU is known
        )
        return (median(ratios), ratios[0], ratios[-1]) if ratios else (1.0, 1.0, 1.0)

    def figures(self) -> dict[str, Any]:
        found: dict[str, Any] = {"trick": self.name, "processes": self.processes}
        for figure in FIGURES:
            names = ("with", "without", "gain", "least", "greatest")
            values = (*self.medians(figure), *self.gains(figure))
            found[figure] = {n: round(v, 3) for n, v in zip(names, values, strict=True)}
        return found


def run(
    tricks: Mapping[str, Trick],
    size: Size,
    processes: Sequence[int],
    say: Callable[[str], object],
) -> list[Compared]:
    """Measure these tricks with so many processes each; returns what they came to.

    The table is written after each.

    Raises `Lost` if an effect is missing or there twice, and RuntimeError if sagas do not end as they
    should.
    """
    with own_schema() as settings, Meter(settings) as meter:
        assert settings.redis_url is not None
        about = describe_machine(meter, settings.redis_url.get_secret_value())
        about["each pair"] = (
            f"{size.busy:,} sagas at once, {size.idle} one by one; {size.repeats} pairs"
        )
        found: list[Compared] = []
        for name, trick in tricks.items():
            for count in processes:
                found.append(_compare(name, trick, count, size))
                RESULTS.write_text(_table(about, found))
                rate = found[-1].gains("ok_per_second")[0]
                say(f"{name}, {count} process(es): {rate:.2f} times as many sagas a second")
    return found


def _compare(name: str, trick: Trick, processes: int, size: Size) -> Compared:
    compared = Compared(name, processes)
    with ExitStack() as stack:
        sides = []
        for off in (False, True):
            settings = stack.enter_context(own_schema())
            connection = stack.enter_context(ledger(settings))
            peer = _peer(name, trick, processes, off=off)
            sides.append((stack.enter_context(peer.run(settings)), connection))
        for side in sides:
            _spell(
                *side, Size(size.busy // 2 or 1, size.idle // 2 or 1, 1), trick
            )  # until it is warm
        for number in range(size.repeats):
            if number % 2:
                without, with_it = (_spell(*side, size, trick) for side in reversed(sides))
            else:
                with_it, without = (_spell(*side, size, trick) for side in sides)
            compared.pairs.append((with_it, without))
    return compared


def _peer(name: str, trick: Trick, processes: int, *, off: bool) -> SagaPeer:
    return SagaPeer(
        processes,
        module="benchmarks.tricks_worker",
        environment={TRICK: name, OFF: "yes" if off else ""},
        build=partial(_build, trick, off=off),
        sagas=trick.sagas,
    )


def _build(trick: Trick, settings: Settings, *, off: bool) -> Runtime:
    """Return the runtime that starts the sagas, and rings as its workers listen."""
    runtime = build_runtime(settings, trick.sagas)
    if off:
        with trick.off():
            assert runtime._wiring.broker  # it is made now
    return runtime


def _spell(
    running: Running, connection: psycopg.Connection[tuple[object, ...]], size: Size, trick: Trick
) -> _Spell:
    found = busy_spell(running, size.busy, connection, trick.refused)
    orders, seconds = running.idle(size.idle, trick.refused)
    Ledger(connection).check(orders, trick.refused)
    return {**found, "p50_ms": percentile(seconds, 0.50) * 1000}


def _table(about: Mapping[str, str], found: Sequence[Compared]) -> str:
    lines = ["# Tricks", "", "Written by `python -m benchmarks.tricks`.", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    lines += [
        "- medians with the trick : without it = median of the pairs' gains (least to greatest)",
        "",
        f"| trick | processes | {' | '.join(head for head, _ in FIGURES.values())} |",
        f"|---|---:|{'---:|' * len(FIGURES)}",
    ]
    for compared in found:
        cells = []
        for figure in FIGURES:
            a, b = compared.medians(figure)
            gain, least, greatest = compared.gains(figure)
            digits = 0 if a > 100 else 2
            cells.append(
                f"{a:.{digits}f} : {b:.{digits}f} = **{gain:.2f}** ({least:.2f} to {greatest:.2f})"
            )
        lines.append(f"| {compared.name} | {compared.processes} | {' | '.join(cells)} |")
    lines += ["", "| trick | what it does | load | where |", "|---|---|---|---|"]
    for name in dict.fromkeys(compared.name for compared in found):
        trick = TRICKS[name]
        lines.append(f"| {name} | {trick.what} | {trick.load or 'one saga'} | {trick.where} |")
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tricks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="shorter spells, and fewer")
    parser.add_argument(
        "--only",
        action="append",
        choices=list(TRICKS),
        metavar="NAME",
        help=f"one of: {', '.join(TRICKS)}; may be given again",
    )
    parser.add_argument(
        "--processes",
        action="append",
        type=int,
        metavar="N",
        help="of each worker, one and two by default; may be given again",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
