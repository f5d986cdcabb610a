"""Lock contention: a consumer of this process gives way where another transaction holds what it needs.

A hop waits for the lock of an ordering key, or of a count, but a moment: the holder may be frozen, and
a process whose threads all wait for it does nothing else.  After that the consumer rests in this
process for a while; then one thread tries, and of all consumers that rest one at a time.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Seconds until the next try.
_REST = 0.5


class LockContention:
    """The rests of one consumer in this process.  Safe to share between threads.

    Args:
        probes: Held by the one thread of the process that tries after a rest.
        ring: Rings the consumer's doorbell.
        rest: Seconds.
    """

    def __init__(
        self, probes: threading.Lock, ring: Callable[[], None], rest: float = _REST
    ) -> None:
        self._probes = probes
        self._ring = ring
        self._rest = rest
        self._lock = threading.Lock()
        self._resting = False
        #: Whether it has rested, and no hop has gone through since.
        self._doubtful = False

    def gave_way(self) -> None:
        """A hop waited in vain: rest, and ring then."""
        with self._lock:
            if self._resting:
                return
            self._resting = self._doubtful = True
        timer = threading.Timer(self._rest, self._rested)
        timer.daemon = True
        timer.start()

    @contextmanager
    def trying(self) -> Iterator[bool]:
        """Say whether this thread may answer a doorbell now; if not, it will ring again."""
        with self._lock:
            resting, doubtful = self._resting, self._doubtful
        if resting:
            yield False
        elif not doubtful:
            yield True
        elif not self._probes.acquire(blocking=False):
            self.gave_way()
            yield False
        else:
            try:
                yield True
            finally:
                self._probes.release()
                with self._lock:
                    self._doubtful = self._resting

    def _rested(self) -> None:
        with self._lock:
            self._resting = False
        self._ring()
