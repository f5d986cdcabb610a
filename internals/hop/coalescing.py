"""Coalescing: which threads of a process answer one consumer's doorbells.

A hop for one delivery costs nearly as much as one for many.  So while hops are quick, one thread
takes what comes, and another one that is rung makes it look once more.  While they are slow,
each thread helps.
"""

import threading
import time
from collections.abc import Callable

#: Seconds for which a thread looks again and again before other consumers get theirs.
_LONGEST = 2.0


class Coalescing:
    """Who answers one consumer in this process.  Safe to share between threads.

    Args:
        patience: Seconds after which a hop that is under way counts as slow.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        #: When those who answer began their last hops, by thread.
        self._holders: dict[int, list[float]] = {}
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
        self._holders[threading.get_ident()][-1] = time.monotonic()

    def _take(self) -> bool:
        with self._lock:
            now = time.monotonic()
            # One of them is enough; of those that are slow, or hang, nobody expects an answer.
            if any(
                now - began < self._patience for mine in self._holders.values() for began in mine
            ):
                self._rung = True
                return False
            self._holders.setdefault(threading.get_ident(), []).append(now)
            return True

    def _pass_on(self) -> bool:
        with self._lock:
            if self._rung:
                self._rung = False
                return False
            self._end()
            return True

    def _leave(self, ring: Callable[[], None]) -> None:
        with self._lock:
            self._end()
            rung, self._rung = self._rung, False
        if rung:
            ring()

    def _end(self) -> None:
        mine = self._holders[threading.get_ident()]
        mine.pop()
        if not mine:
            del self._holders[threading.get_ident()]
