"""The drive: start the trips while the storm lasts, end it, and wait until all is quiet."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from boundary import Runtime
from saga import Saga
from tests.chaos.crew import Crew
from tests.chaos.faults import Storm
from tests.chaos.plan import SCHEMA
from tests.chaos.profiles import START_REPEATED
from tests.chaos.servers import OwnServers
from tests.chaos.tally import Tally
from tests.chaos.trips import Trip

#: Trips that are started in one transaction at most.
_PORTION = 40
#: Of the trips, so many are kept back until every fault has struck.
_KEPT_BACK = 0.2
#: Seconds over which those are spread then.
_LONGER = 60.0
#: Seconds for which the storm goes on, at most, when all are begun and not every fault has struck.
_LONGEST = 180.0
#: Seconds without any progress after which the rest is reported as it is.
_PATIENCE = 150.0
_LOOK = 0.1

_STANDING = f"""
SELECT count(*), count(*) FILTER (
           WHERE finished_at IS NOT NULL OR (status = 'stuck' AND NOT %(attended)s)),
       (SELECT coalesce(sum(consumed), 0) FROM {SCHEMA}.saga WHERE finished_at IS NULL)
FROM {SCHEMA}.saga
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """How far the run is."""

    begun: int
    #: Completed, compensated, or stuck where nobody attends to it.
    over: int
    pending: int
    #: Grows with each message that a saga under way consumes.
    steps: int

    @property
    def quiet(self) -> bool:
        """Whether nothing is left to do."""
        return self.begun == self.over and not self.pending


@dataclass(slots=True)
class Driven:
    """What the driver was told, and what it saw."""

    #: Starts that were acknowledged: business key to saga.
    acknowledged: dict[str, UUID] = field(default_factory=dict)
    #: Keys for which a repeated start gave another saga.
    contradicted: set[str] = field(default_factory=set)
    #: From the end of the storm until nothing was left to do; None if that never came.
    seconds_to_drain: float | None = None
    #: Seconds of the longest call that the host made.
    longest_call: float = 0.0


class Drive:
    """One run's driver.

    Args:
        runtime: The host's, which starts the sagas; it meets the network's faults too.
        saga: What they are trips of.
        trips: All that will be started.
        attended: Whether somebody lets stuck sagas go on.
        needed: The faults that have to strike.
        under_way: Trips that are under way at once, at most.
        seconds: Spread the starts over so many seconds at least.
        progress: Called now and then with how far it is.
    """

    def __init__(
        self,
        runtime: Runtime,
        saga: Saga[Any],
        trips: Sequence[Trip],
        servers: OwnServers,
        crew: Crew,
        tally: Tally,
        *,
        attended: bool,
        needed: frozenset[str],
        under_way: int,
        seconds: float,
        seed: int,
        progress: Callable[[Standing | None], None],
    ) -> None:
        self._runtime = runtime
        self._saga = saga
        self._attended = attended
        self._trips = trips
        self._servers = servers
        self._crew = crew
        self._tally = tally
        self._needed = needed
        self._under_way = under_way
        self._seconds = seconds
        self._random = random.Random(f"{seed}/drive")
        self._progress = progress
        self.driven = Driven()

    def run(self, storm: Storm) -> Driven:
        """Run to the end, or until nothing has moved for long."""
        try:
            storm.begin()
            self._start_all()
        finally:
            storm.end()
        self._servers.start()
        self.driven.seconds_to_drain = self.await_quiet()
        return self.driven

    def await_quiet(self) -> float | None:
        """Wait until nothing is left to do; returns the seconds, or None if that does not come."""
        begun = time.monotonic()
        for standing in self._watch():
            if standing is not None and standing.quiet:
                return time.monotonic() - begun
            time.sleep(_LOOK)
        return None

    def _start_all(self) -> None:
        begun = time.monotonic()
        waiting = list(reversed(self._trips))
        kept_back = int(len(waiting) * _KEPT_BACK)
        slowly_since = all_begun = 0.0
        for standing in self._watch():
            absent = self._needed - set(self._tally.read())
            if not waiting:
                # All are begun; while some go on, what has not struck yet still may.
                all_begun = all_begun or time.monotonic()
                over = standing is not None and standing.quiet
                if not absent or over or time.monotonic() - all_begun > _LONGEST:
                    return
                time.sleep(_LOOK)
                continue
            may = len(self._trips)
            if self._seconds:
                may = int(may * (time.monotonic() - begun) / self._seconds) + 1
            wanted = min(may - (len(self._trips) - len(waiting)), _PORTION)
            if absent and len(waiting) > kept_back:
                wanted = min(wanted, len(waiting) - kept_back)
            elif absent:
                # Go on slowly, so that there is work for what has not struck yet.
                slowly_since = slowly_since or time.monotonic()
                part = (time.monotonic() - slowly_since) / _LONGER
                wanted = min(wanted, int(kept_back * part) - (kept_back - len(waiting)))
            if standing is None or standing.begun - standing.over < self._under_way:
                self._start(waiting, self._random.randint(0, max(wanted, 0)))
            time.sleep(_LOOK)

    def _start(self, waiting: list[Trip], count: int) -> None:
        """Start the next so many trips; what is not acknowledged is asked for again later."""
        if not count:
            return
        trips = waiting[-count:]
        again = self._random.random() < 0.3 and bool(self.driven.acknowledged)
        if again:
            known = self._trips[: len(self._trips) - len(waiting)]
            trips = [*trips, *self._random.sample(known, min(3, len(known)))]
        asked = time.monotonic()
        try:
            with self._runtime.engine.begin() as connection:
                ids = self._runtime.start_many(connection, self._saga, trips)
        except (SQLAlchemyError, psycopg.Error):  # as the framework lets the driver's through
            return
        finally:
            took = time.monotonic() - asked
            self.driven.longest_call = max(self.driven.longest_call, took)
        if again:
            self._tally.struck(START_REPEATED)
        for trip, id in zip(trips, ids, strict=True):
            if self.driven.acknowledged.setdefault(trip.reference, id) != id:
                self.driven.contradicted.add(trip.reference)
        del waiting[-count:]

    def _watch(self) -> Iterator[Standing | None]:
        """Yield how far it is, again and again, as long as something moves."""
        moved, before = time.monotonic(), None
        while time.monotonic() - moved < _PATIENCE:
            self._crew.revive()
            now = self._look()
            signs = (now, len(self.driven.acknowledged))
            if now is not None and signs != before:
                moved, before = time.monotonic(), signs
            self._progress(now)
            yield now

    def _look(self) -> Standing | None:
        try:
            with self._servers.connect() as connection:
                row = connection.execute(_STANDING, {"attended": self._attended}).fetchone()
            pending = sum(_pending(each) for each in self._servers.connect_to_all())
        except psycopg.Error:
            return None  # it is down just now
        assert row is not None
        begun, over, steps = (int(str(value)) for value in row)
        return Standing(begun, over, pending, steps)


def _pending(connection: psycopg.Connection[tuple[object, ...]]) -> int:
    row = connection.execute(f"SELECT count(*) FROM {SCHEMA}.inbox WHERE state = 'pending'")
    return int(str(row.fetchone()[0]))  # type: ignore[index]
