"""Frost: watches what is frozen in a run, puts others in its place, and lets it go on much later.

Who is frozen is replaced at once, as a deployment replaces what does not answer; its locks and
leases stay.  It is let go on long after every bound, or when all others are done, and told to stop
then: what it does in between is what the run is about.
"""

import os
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.crew import Crew
from tests.chaos.freezing import SLOTS, Frozen, grant, read_frozen
from tests.chaos.tally import Tally

#: Seconds that the first freeze of each kind lasts if the others are not done before, and that the
#: later ones last, and those for which there would be too few slots.
LONG, SHORT = 120.0, 7.0
_MOST_LONG = SLOTS - 5
#: Seconds that one who was let go on may work before it is told to stop.
_AWAKE = 2.0
_LOOK = 0.1
#: Seconds between two freezes when each has struck.  Those of a frozen process's sessions that wait
#: for a lock get it in turn, and each keeps it until its transaction is ended: for some seconds
#: together.  A row that all need would be locked without end by freezes that come as often.
EVERY = 12.0
#: So many have to work for one of them to freeze.
_AT_WORK = 2
#: Seconds that their booting may take.
_BOOT = 120.0


@dataclass(frozen=True, slots=True)
class Interval:
    """From when to when, by `time.monotonic`, somebody was frozen, and where."""

    fault: str
    begin: float
    end: float


class Frost:
    """Runs in a thread of the run's own, until it is closed.

    Args:
        folder: The run's.
        crew: Who may freeze.
        wanted: The freezes that have to strike.
        tally: Tells which did.
    """

    def __init__(self, folder: Path, crew: Crew, wanted: frozenset[str], tally: Tally) -> None:
        self._folder = folder
        self._crew = crew
        self._wanted = wanted
        self._tally = tally
        self._granted = 0.0
        self._known: dict[Path, tuple[Frozen, float]] = {}
        self._awake: dict[int, float] = {}
        self._seen: set[str] = set()
        self._turn = threading.Lock()
        self._over = threading.Event()
        self.intervals: list[Interval] = []
        self._await_work()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def at(self, begin: float, end: float) -> list[str]:
        """Return who was frozen between these times of the monotonic clock."""
        with self._turn:
            return sorted({i.fault for i in self.intervals if i.begin < end and i.end > begin})

    def thaw_all(self) -> None:
        """Let all go on, and wait until they have stopped."""
        with self._turn:
            self._look(everybody=True)
            for group in list(self._awake):
                self._crew.dismiss(group)
            self._awake.clear()
        self._crew.await_dismissed()

    def close(self) -> None:
        """Watch no more."""
        self._over.set()
        self._thread.join()

    def _await_work(self) -> None:
        """Wait until somebody works: to boot is no standstill."""
        deadline = time.monotonic() + _BOOT
        while self._crew.at_work < _AT_WORK and time.monotonic() < deadline:
            time.sleep(_LOOK)

    def _watch(self) -> None:
        while not self._over.wait(_LOOK):
            with self._turn:
                self._look(everybody=False)

    @property
    def _long(self) -> int:
        return sum(until - frozen.since >= LONG for frozen, until in self._known.values())

    def _look(self, *, everybody: bool) -> None:
        now = time.monotonic()
        if self._crew.at_work >= _AT_WORK:
            absent = self._wanted - self._tally.read().keys()
            if absent or now - self._granted > EVERY:
                self._granted = now
                grant(self._folder, sorted(absent))
        for slot, frozen in read_frozen(self._folder):
            if slot not in self._known:
                # What holds locks stays for long once; what holds none any more need not.
                long = frozen.fault not in self._seen and "_after_" not in frozen.fault
                long = long and self._long < _MOST_LONG
                self._seen.add(frozen.fault)
                self._known[slot] = (frozen, frozen.since + (LONG if long else SHORT))
                self._crew.replace(frozen.group)
        for slot, (frozen, until) in list(self._known.items()):
            if everybody or now > until:
                self.intervals.append(Interval(frozen.fault, frozen.since, now))
                with suppress(ProcessLookupError):
                    os.killpg(frozen.group, signal.SIGCONT)
                slot.unlink()
                del self._known[slot]
                self._awake[frozen.group] = now + _AWAKE
        for group, until in list(self._awake.items()):
            if now > until:
                self._crew.dismiss(group)
                del self._awake[group]
