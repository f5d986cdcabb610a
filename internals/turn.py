"""Turn: which threads of a process answer one consumer's doorbells.

A hop for one delivery costs nearly as much as one for many.  So while hops are quick, one thread
takes whatever comes, and whoever else is rung tells it to look once more.  While they are slow,
each thread helps.
"""

import threading
import time
from collections.abc import Callable

#: Seconds for which a thread looks again and again before other consumers get theirs.
_LONGEST = 2.0


class Turn:
    """The turn of one consumer in this process.  Safe to share between threads.

    Args:
        patience: Seconds after which a hop that is under way counts as slow.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._holders = 0
        self._hopped_at = 0.0
        self._rung = False

    def run(self, once: Callable[[], int], ring: Callable[[], None]) -> int:
        """Answer a doorbell, unless another thread does.

        Args:
            once: Handles what is due and returns how much it was; it calls `hopping` before each
                hop.  It is run again as often as others were rung meanwhile, for a while.
            ring: Rings the doorbell again, for what was rung for and could not be answered.
        """
        if not self._take():
            return 0
        done = 0
        until = time.monotonic() + _LONGEST
        try:
            while True:
                done += once()
                if self._pass_on():
                    return done
                if time.monotonic() > until:
                    self._rung = True
                    break
        except BaseException:
            self._leave(ring)
            raise
        self._leave(ring)
        return done

    def hopping(self) -> None:
        """A hop begins."""
        self._hopped_at = time.monotonic()

    def _take(self) -> bool:
        with self._lock:
            now = time.monotonic()
            if self._holders and now - self._hopped_at < self._patience:
                self._rung = True
                return False
            self._holders += 1
            self._hopped_at = now
            return True

    def _pass_on(self) -> bool:
        with self._lock:
            if self._rung:
                self._rung = False
                return False
            self._holders -= 1
            return True

    def _leave(self, ring: Callable[[], None]) -> None:
        with self._lock:
            self._holders -= 1
            rung, self._rung = self._rung, False
        if rung:
            ring()
