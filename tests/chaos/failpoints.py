"""Failpoints: a process dies, or the database seems to fail, exactly around a commit.

They come from the framework's own list of commit boundaries, so a boundary that is new has its
failpoints at once, and a run in which they never struck fails.
"""

import os
import random
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg
from sqlalchemy.exc import OperationalError

from internals.database.commit_points import Boundary, watch
from tests.chaos.freezing import freeze
from tests.chaos.tally import Tally

#: What may happen at a boundary.  `error_after` is the nastiest: it was committed, and the
#: caller is told that it failed.
KINDS = ("kill_before", "error_before", "error_after", "kill_after")

#: Or all stands still there, with the transaction open or just committed.
FREEZES = ("freeze_before", "freeze_after")

#: Which program of the harness passes each boundary.  A boundary that is missing here fails a
#: test: say where it is passed, and see that its failpoints strike.
PASSED_IN: Mapping[Boundary, str] = {
    Boundary.HOP: "worker",
    Boundary.LEASED: "worker",
    Boundary.ACT: "operating",
    Boundary.RELAY: "worker",
    Boundary.SUBSCRIBE: "worker",
    Boundary.MIGRATE: "migrating",
    Boundary.FORWARD: "partners",
    Boundary.FORWARDED: "partners",
    Boundary.RETURN: "partners",
    Boundary.RETURNED: "partners",
}

#: Boundaries of a worker whose partners have a database of their own.
APART = frozenset(boundary for boundary, program in PASSED_IN.items() if program == "partners")

#: How often one passing of a boundary meets each of its failpoints.
_RATES: Mapping[Boundary, float] = {
    Boundary.HOP: 0.005,
    Boundary.SUBSCRIBE: 0.1,
    **dict.fromkeys(APART, 0.04),
    # Acts are few: one that did not strike yet strikes at the next.
    Boundary.ACT: 0.2,
}
_RATE = 0.05
#: How much sooner one strikes that did not strike yet, and how often at least.
_SOON = 5.0
_FIRST = 0.25
#: So many times more rarely all stands still than it dies: it stays so for long.  One that did not
#: strike yet strikes when it is granted.
_RARER = 10.0
_WHEN_GRANTED = 200.0


def name(kind: str, boundary: Boundary) -> str:
    """Return the fault's name."""
    return f"{kind}_{boundary.value}"


def rates(kinds: Sequence[str] = KINDS) -> dict[str, float]:
    """Return the failpoints of a worker and how often each strikes."""
    return {
        name(kind, boundary): _rate(kind, boundary)
        for boundary in Boundary
        if PASSED_IN.get(boundary) not in ("migrating", "partners")
        for kind in kinds
    }


def rates_apart(kinds: Sequence[str] = KINDS) -> dict[str, float]:
    """Return the further failpoints of a worker whose partners have a database of their own."""
    return {name(kind, boundary): _rate(kind, boundary) for boundary in APART for kind in kinds}


def install(rates: Mapping[str, float], folder: Path, tally: Tally) -> None:
    """Let the commits of this process meet these failpoints while the storm lasts."""
    if rates:
        watch(_Failpoints(rates, folder, tally))


class _Failpoints:
    """Called around each commit; strikes now and then, and soon where nothing struck yet."""

    def __init__(self, rates: Mapping[str, float], folder: Path, tally: Tally) -> None:
        self._rates = rates
        self._folder = folder
        self._tally = tally
        self._random = random.Random()
        self._absent = set(rates)
        self._counted = 0.0

    def __call__(self, boundary: Boundary, moment: str) -> None:
        if not self._tally.stormy:
            return
        if self._absent and time.monotonic() - self._counted > 1:
            self._counted = time.monotonic()
            self._absent -= set(self._tally.read())
        kinds = [kind for kind in (*KINDS, *FREEZES) if kind.endswith(moment)]
        names = {name(kind, boundary): kind for kind in kinds}
        for fault in self._random.sample(list(names), len(names)):
            rate = self._rates.get(fault, 0.0)
            if rate and fault in self._absent:
                freezes = names[fault] in FREEZES
                rate = rate * _WHEN_GRANTED if freezes else max(rate * _SOON, _FIRST)
            if self._random.random() < rate:
                strike(names[fault], boundary, self._folder, self._tally)


def _rate(kind: str, boundary: Boundary) -> float:
    return _RATES.get(boundary, _RATE) / (_RARER if kind in FREEZES else 1)


def strike(kind: str, boundary: Boundary, folder: Path, tally: Tally) -> None:
    """Die or stand still with all of this process's group, or raise what a lost connection raises."""
    if kind in FREEZES:
        freeze(folder, name(kind, boundary), tally)
        return
    tally.struck(name(kind, boundary))
    if kind.startswith("kill"):
        os.killpg(0, signal.SIGKILL)
    lost = psycopg.OperationalError("server closed the connection unexpectedly")
    raise OperationalError("COMMIT", None, lost) from lost
