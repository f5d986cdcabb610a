"""The drive of the demo: start the trips, strike now and then, and wait until all is over."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import redis

from boundary import Runtime
from examples.travel.airline import Airline
from examples.travel.booking import BOOK_TRIP
from examples.travel.interruption import Interruption
from examples.travel.progress import Progress
from examples.travel.record import read_standing
from examples.travel.trips import Trip
from examples.travel.workers import Workers

#: Trips that are started in one transaction.
_PORTION = 100
#: Seconds between two looks at how far it is.
_LOOK = 0.1
#: Seconds without any progress after which the rest is reported as unfinished.
_PATIENCE = 60.0


@dataclass(slots=True)
class Faults:
    """What strikes while the trips are booked."""

    #: Seconds between two SIGKILLs of a worker; 0 for none.
    kill_every: float
    #: Seconds between two wipes of Redis; 0 for none.
    flush_every: float
    #: Whether the Redis server is ours alone, so that a wipe may be FLUSHALL.
    whole_server: bool
    flushes: int = 0
    _next_kill: float = field(default=0.0, init=False)
    _next_flush: float = field(default=0.0, init=False)

    def begin(self) -> None:
        """Set the clock of the first strikes."""
        now = time.monotonic()
        self._next_kill = now + self.kill_every
        self._next_flush = now + self.flush_every

    def strike(self, runtime: Runtime, workers: Workers) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self.kill_every and now >= self._next_kill:
            workers.kill_one()
            self._next_kill = now + self.kill_every
        if self.flush_every and now >= self._next_flush:
            self.wipe(runtime)
            self.flushes += 1
            self._next_flush = now + self.flush_every

    def wipe(self, runtime: Runtime) -> None:
        """Wipe Redis; on a server that is not ours alone, every key of the demo and no other."""
        url = runtime.settings.redis_url
        assert url is not None
        with redis.Redis.from_url(url.get_secret_value()) as client:
            if self.whole_server:
                client.flushall()
                return
            keys = list(client.scan_iter(match=f"{runtime.settings.namespace}:*", count=1000))
            if keys:
                client.delete(*keys)


def drive(
    runtime: Runtime,
    trips: Sequence[Trip],
    airline: Airline,
    workers: Workers,
    faults: Faults,
    progress: Progress,
    interruption: Interruption,
) -> None:
    """Book all trips, while flights are cancelled; return when all is over and every delivery done.

    Returns too when nothing has moved for a minute, so that what is stuck can be reported.
    Raises `Interrupted` when the user wants to end.
    """
    waiting = [trips[i : i + _PORTION] for i in range(0, len(trips), _PORTION)]
    waiting.reverse()
    faults.begin()
    moved = time.monotonic()
    before = None
    while True:
        interruption.check()
        if waiting:
            with runtime.engine.begin() as connection:
                runtime.start_many(connection, BOOK_TRIP, waiting.pop())
        faults.strike(runtime, workers)
        workers.revive()
        with runtime.engine.connect() as connection:
            now = read_standing(connection, runtime.settings.db_schema)
        progress.show(now, workers.kills)
        news = airline.go_on(runtime, now.booked / len(trips))
        over = not (waiting or news or now.unfinished or now.pending)
        if over and airline.done:
            return
        if now != before:
            before, moved = now, time.monotonic()
        elif time.monotonic() - moved > _PATIENCE:
            return
        if not waiting:
            time.sleep(_LOOK)
