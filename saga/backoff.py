"""Backoff: how long to wait after failures in a row."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from failure to failure.  Pure: the caller counts, draws and sleeps."""

    #: Seconds of the wait after the first failure, and of the longest.
    first: float
    cap: float
    #: Which share of each wait is random, from 0 to 1: 1 is full jitter, so that what failed together
    #: does not come back together.
    jitter: float = 0.0

    def longest(self, failures: int) -> float:
        """Return the seconds to wait after so many failures in a row, 1 or more, but for jitter."""
        return min(self.first * 2.0 ** min(failures - 1, 32), self.cap)

    def wait(self, failures: int, drawn: float) -> float:
        """Return the seconds to wait; `drawn` is a random number from [0, 1)."""
        return self.longest(failures) * (1 - self.jitter + self.jitter * drawn)
