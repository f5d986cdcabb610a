"""Retry: how often and when a failed delivery is tried again."""

from dataclasses import dataclass
from datetime import timedelta

from saga.errors import DefinitionError


@dataclass(frozen=True, slots=True)
class Retry:
    """A retry policy.  The waits are kept in Postgres as due times, never in a worker."""

    #: Runs in all, the first included.
    attempts: int = 5
    #: The wait before the second run; it doubles each time.
    backoff: timedelta = timedelta(seconds=1)
    #: No wait is longer than this.
    cap: timedelta = timedelta(minutes=5)

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise DefinitionError(f"Retry: attempts must be 1 or more, not {self.attempts}")
        if not (isinstance(self.backoff, timedelta) and isinstance(self.cap, timedelta)):
            raise DefinitionError("Retry: backoff and cap must be timedeltas")
        if self.backoff < timedelta(0) or self.cap < timedelta(0):
            raise DefinitionError("Retry: backoff and cap must not be negative")

    def delay(self, attempt: int, jitter: float) -> float | None:
        """Return the seconds to wait after run number `attempt` failed, or None to give up.

        `jitter` is drawn by the caller from [0, 1): full jitter, so that what failed together
        does not come back together.
        """
        if attempt >= self.attempts:
            return None
        doubled: float = self.backoff.total_seconds() * 2.0 ** min(attempt - 1, 32)
        return min(doubled, self.cap.total_seconds()) * jitter


#: What a handler gets when neither it nor the step says otherwise.
DEFAULT_RETRY = Retry()
