"""Circuit breaker: what did not work just now is left alone for a while."""

import threading
import time


class Breaker:
    """Remembers by name what failed.  Safe to share between threads.

    Args:
        pause: Seconds for which nobody tries again what failed; then one does.
    """

    def __init__(self, pause: float) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        #: When to try again.
        self._again: dict[str, float] = {}

    def may_try(self, name: str) -> bool:
        """Whether to try it now; of many callers after a failure one gets True in each pause."""
        if name not in self._again:  # the usual case needs no lock
            return True
        with self._lock:
            if time.monotonic() < self._again.get(name, 0.0):
                return False
            self._again[name] = time.monotonic() + self._pause
            return True

    def failed(self, name: str) -> bool:
        """Note that it failed; returns whether it had worked before."""
        with self._lock:
            new = name not in self._again
            self._again[name] = time.monotonic() + self._pause
            return new

    def worked(self, name: str) -> bool:
        """Note that it worked; returns whether it had failed before."""
        if name not in self._again:
            return False
        with self._lock:
            return self._again.pop(name, None) is not None

    def failing(self) -> frozenset[str]:
        """Return what failed when it was tried last."""
        if not self._again:
            return frozenset()
        with self._lock:
            return frozenset(self._again)

    def overdue(self) -> frozenset[str]:
        """Return those of them that may be tried again."""
        if not self._again:
            return frozenset()
        with self._lock:
            now = time.monotonic()
            return frozenset(name for name, again in self._again.items() if again <= now)

    def left(self, name: str) -> float:
        """Return the seconds until it may be tried again."""
        return max(self._again.get(name, 0.0) - time.monotonic(), 0.0)
