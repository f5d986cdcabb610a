"""Faults inside a worker: a clock that is wrong, and fewer connections than threads."""

import time

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import PoolProxiedConnection, QueuePool

from tests.chaos.tally import Tally

SKEWED, EXHAUSTED = "clock_skewed", "pool_exhausted"

#: In the environment of a worker with this fault: seconds that its clock is wrong by, or the
#: number of its connections.
SKEW, POOL = "CHAOS_SKEW", "CHAOS_POOL"


def narrow_engine(url: str, connections: int, tally: Tally) -> Engine:
    """Return an engine with so few connections; counts whoever has to wait for one."""

    class NarrowPool(QueuePool):
        def connect(self) -> PoolProxiedConnection:
            if self.checkedout() >= self.size() and tally.stormy:
                tally.struck(EXHAUSTED)
            return super().connect()

    return create_engine(url, poolclass=NarrowPool, pool_size=connections, max_overflow=0)


def skew_clock(seconds: float, engine: Engine, tally: Tally) -> None:
    """Make this process's wall clock wrong; counted once it has committed something with it.

    The monotonic clock stays right, as it does when a clock is set.
    """
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1e9)
    told: list[bool] = []

    def tell(_: Connection) -> None:
        if not told and tally.stormy:
            told.append(True)
            tally.struck(SKEWED)

    event.listen(engine, "commit", tell)
