"""A run: first the named tests as they are, then one trial for each plant, then the table."""

import queue
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutants.plant import Plant
from tests.mutants.tree import Copy
from tests.mutants.trial import Trial, Verdict, run_tests, try_plant

#: Seconds that one test may take; a mistake may make it wait for ever.
LIMIT = 90.0


def run(
    plants: Sequence[Plant],
    root: Path,
    console: Console,
    *,
    environment: Mapping[str, str],
    jobs: int,
    limit: float = LIMIT,
) -> bool:
    """Try these plants on copies of the tree at `root`; returns whether each was caught.

    What happens is printed.  Nothing is tried if one of their tests does not pass as it is.
    """
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="saga-mutants-") as folder:
        copies = [Copy(root, Path(folder, str(n)), environment) for n in range(jobs)]
        packages = sorted({plant.package for plant in plants})
        if foreign := copies[0].foreign(packages):
            console.print(f"The copy is not what is imported, but {', '.join(foreign)}.")
            return False
        if not _all_pass(plants, copies[0], console, jobs=jobs, limit=limit):
            return False
        trials = _try_all(plants, copies, console, limit=limit)
    console.print(_table(trials))
    caught = sum(trial.verdict is Verdict.CAUGHT for trial in trials)
    console.print(
        f"{caught} of {len(trials)} plants caught in {time.monotonic() - begun:.0f} s"
        + "".join(f"\n{t.plant.name}: {t.verdict}: {t.why}" for t in trials if not _good(t)),
        markup=False,
    )
    return caught == len(trials)


def _all_pass(
    plants: Sequence[Plant], copy: Copy, console: Console, *, jobs: int, limit: float
) -> bool:
    tests = sorted({plant.caught_by for plant in plants})
    report = run_tests(copy, tests, limit=limit, processes=jobs)
    if report.status == 0 and not report.errors:
        console.print(f"{len(tests)} tests pass without a plant", markup=False)
        return True
    console.print(report.output, markup=False)
    console.print("Nothing was planted: the tests do not pass as they are.")
    return False


def _try_all(
    plants: Sequence[Plant], copies: Sequence[Copy], console: Console, *, limit: float
) -> list[Trial]:
    """Each copy is used by one trial at a time; returns the trials in the order of the plants."""
    free: queue.SimpleQueue[Copy] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(plant: Plant) -> Trial:
        copy = free.get()
        try:
            return try_plant(plant, copy, limit=limit)
        finally:
            free.put(copy)

    done: dict[Plant, Trial] = {}
    with ThreadPoolExecutor(len(copies)) as pool:
        try:
            for future in as_completed([pool.submit(one, plant) for plant in plants]):
                trial = future.result()
                done[trial.plant] = trial
                line = f"{len(done):3}/{len(plants)} {trial.plant.name}: {trial.verdict}"
                console.print(
                    f"{line}: {trial.why}", markup=False, overflow="ellipsis", no_wrap=True
                )
        except BaseException:
            pool.shutdown(cancel_futures=True)  # Ctrl-C: those under way end, no other begins
            raise
    return [done[plant] for plant in plants]


def _good(trial: Trial) -> bool:
    return trial.verdict is Verdict.CAUGHT


def _table(trials: Sequence[Trial]) -> Table:
    table = Table(show_lines=False)
    for heading, options in (
        ("plant", {"no_wrap": True}),
        ("what it breaks", {"ratio": 3}),
        ("caught by", {"ratio": 4, "overflow": "fold"}),
        ("", {"no_wrap": True}),
        ("s", {"justify": "right", "no_wrap": True}),
    ):
        table.add_column(heading, **options)
    for trial in trials:
        plant = trial.plant
        table.add_row(
            plant.name,
            plant.breaks,
            _escape(short(plant.caught_by)),
            str(trial.verdict),
            f"{trial.seconds:.1f}",
        )
    return table


def short(test: str) -> str:
    """A node id for people: the file's name and the test's."""
    file, *parts = test.split("::")
    return f"{Path(file).name}::{parts[-1]}"


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
