"""Faults that come from outside the workers, on a seeded schedule, in lanes side by side.

The faults inside workers are in `failpoints`, `doorbells` and `worker`, those of the network in
`proxy`, and those of the outside server in `gateway`.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import redis

from tests.chaos.crew import Crew
from tests.chaos.echoes import Echoes
from tests.chaos.servers import OwnServers
from tests.chaos.tally import Tally

logger = logging.getLogger(__name__)

#: Of the kills, those that cut a transaction short.
KILLED_IN_HOP = "worker_killed_in_hop"

#: Redis is stopped with SIGSTOP: it takes connections and never answers.
REDIS_HUNG = "redis_hung"

#: Does it, and tells whether it really struck anything.
Strike = Callable[[random.Random], bool]


@dataclass(frozen=True, slots=True)
class Fault:
    """What strikes, and between how many seconds it strikes again."""

    name: str
    every: tuple[float, float]
    strike: Strike


def workers_lanes(crew: Crew, servers: OwnServers, tally: Tally) -> Sequence[Sequence[Fault]]:
    """Return what befalls the workers."""

    def witness(name: str) -> bool:
        found = servers.in_transaction(name)
        if found:
            tally.struck(KILLED_IN_HOP)
        return found

    return (
        [Fault("worker_killed", (0.5, 2), lambda rng: crew.kill(rng, witness))],
        [Fault("worker_paused", (2, 5), lambda rng: crew.pause(rng, rng.uniform(0.3, 3)))],
        [Fault("rolling_restart", (1, 4), crew.roll)],
    )


def postgres_lane(servers: OwnServers) -> Sequence[Fault]:
    """Return what befalls Postgres; one after the other, since they would hide each other."""

    def stop(rng: random.Random) -> bool:
        servers.stop_postgres(rng.uniform(0, 2), rng)
        return True

    return [
        Fault("postgres_stopped_immediate", (5, 20), stop),
        Fault("backend_terminated", (0.2, 1), lambda rng: _terminate(servers, rng)),
        Fault("disk_full", (6, 20), lambda rng: servers.fill_disk(rng.uniform(0.5, 3), rng)),
    ]


def redis_lane(servers: OwnServers) -> Sequence[Fault]:
    """Return what befalls Redis."""

    def flush(rng: random.Random) -> bool:
        with servers.redis() as client:
            return bool(client.flushall())

    def kill(rng: random.Random) -> bool:
        servers.kill_redis(rng.uniform(0, 3))
        return True

    return [
        Fault("redis_flushed", (2, 6), flush),
        Fault("redis_killed", (5, 12), kill),
        Fault(REDIS_HUNG, (5, 12), lambda rng: servers.hang_redis(rng.uniform(3, 6))),
        Fault("redis_full", (5, 12), lambda rng: _fill_redis(servers, rng.uniform(0.5, 3))),
    ]


def messages_lane(echoes: Echoes) -> Sequence[Fault]:
    """Return what befalls the messages themselves."""
    return [
        Fault("message_repeated", (0.1, 0.5), echoes.repeat),
        Fault("reply_repeated", (0.1, 0.5), echoes.repeat_replies),
        Fault("delivery_reordered", (0.1, 0.5), echoes.reorder),
    ]


class Storm:
    """Lets the faults of some lanes strike, until it is ended.

    Args:
        lanes: In each, one fault at a time.
        names: Those that strike in this run; the others are left out.
        calm: Each strikes so many times more rarely.
        tally: Counts.
        seed: Decides when, whom and how long.
    """

    def __init__(
        self,
        lanes: Sequence[Sequence[Fault]],
        names: frozenset[str],
        calm: float,
        tally: Tally,
        seed: int,
    ) -> None:
        self._calm = calm
        chosen = ([fault for fault in lane if fault.name in names] for lane in lanes)
        self._lanes = [lane for lane in chosen if lane]
        self._tally = tally
        self._seed = seed
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), daemon=True) for lane in self._lanes
        ]

    def begin(self) -> None:
        self._tally.begin_storm()
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Strike no more, and wait until what has begun is over."""
        self._tally.end_storm()
        self._over.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _run(self, lane: Sequence[Fault]) -> None:
        rngs: Mapping[str, random.Random] = {
            fault.name: random.Random(f"{self._seed}/{fault.name}") for fault in lane
        }
        now = time.monotonic()
        # The first of each comes early, so that a short run has seen them all.
        due = {f.name: now + rngs[f.name].uniform(0.5, 1.5) * min(f.every[0], 2) for f in lane}
        while True:
            fault = min(lane, key=lambda fault: due[fault.name])
            if self._over.wait(max(0.0, due[fault.name] - time.monotonic())):
                return
            self._strike(fault, rngs[fault.name])
            pause = self._calm * rngs[fault.name].uniform(*fault.every)
            due[fault.name] = time.monotonic() + pause

    def _strike(self, fault: Fault, rng: random.Random) -> None:
        try:
            struck = fault.strike(rng)
        except Exception as error:
            # Another fault may be in the way: then this one did not strike, and is not counted.
            logger.info("%s did not strike: %s: %s", fault.name, type(error).__name__, error)
            return
        if struck:
            self._tally.struck(fault.name)


def _terminate(servers: OwnServers, rng: random.Random) -> bool:
    found = []
    for connection in servers.connect_to_all():
        rows = connection.execute(
            """SELECT pid FROM pg_stat_activity
               WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() ORDER BY pid"""
        ).fetchall()
        if rows:
            (pid,) = rng.choice(rows)
            struck = connection.execute("SELECT pg_terminate_backend(%s)", [pid]).fetchone()
            found.append(struck == (True,))
    return any(found)


def _fill_redis(servers: OwnServers, seconds: float) -> bool:
    with servers.redis() as client:
        client.config_set("maxmemory", 1)
        try:
            client.set("filler", "x")
            full = False
        except redis.exceptions.OutOfMemoryError:
            full = True
        time.sleep(seconds)
        client.config_set("maxmemory", 0)
    return full
