"""Retry: how often and when a failed delivery is tried again."""

from dataclasses import dataclass, replace
from datetime import timedelta

from saga.backoff import Backoff
from saga.errors import DefinitionError
from saga.validation.durations import check_not_too_long


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed delivery is tried again, and when.

    The waits have full jitter, and are kept in Postgres as due times, never in a worker.

    Args:
        attempts: Runs in all, the first included.
        backoff: The wait before the second run; it doubles each time.
        cap: No wait is longer than this.
        never: Exceptions after which it is given up at once: classes, or their names, module and
            all.  A subclass counts; of `never` and `always`, the class that is nearer to the
            exception wins.
        always: Exceptions after which it is tried again however often it was: a partner's rate
            limit.

    Raises:
        DefinitionError: The numbers cannot work, or an exception is in both lists.

    Example:
        ```python
        from datetime import timedelta

        from saga import Retry

        policy = Retry(attempts=3, backoff=timedelta(seconds=2), never=(ValueError,))
        assert policy.delay(2, jitter=0.5) == 2.0  # half of the second wait, 4 s
        assert policy.delay(1, 0.5, ValueError("a bug")) is None
        ```
    """

    attempts: int = 5
    backoff: timedelta = timedelta(seconds=1)
    cap: timedelta = timedelta(minutes=5)
    never: tuple[type[BaseException] | str, ...] = ()
    always: tuple[type[BaseException] | str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.attempts, int) or self.attempts < 1:
            raise DefinitionError(f"Retry: attempts must be 1 or more, not {self.attempts}")
        if not (isinstance(self.backoff, timedelta) and isinstance(self.cap, timedelta)):
            raise DefinitionError("Retry: backoff and cap must be timedeltas")
        if self.backoff < timedelta(0) or self.cap < timedelta(0):
            raise DefinitionError("Retry: backoff and cap must not be negative")
        check_not_too_long(self.backoff, "Retry: backoff")
        check_not_too_long(self.cap, "Retry: cap")
        for field in ("never", "always"):
            # By name, since a step's policy travels with its command to whoever handles it.
            named = _names(field, getattr(self, field))
            object.__setattr__(self, field, named)
        if both := set(self.never) & set(self.always):
            raise DefinitionError(f"Retry: {min(map(str, both))} is in never and in always")

    def overridden_by(self, step: "Retry | None") -> "Retry":
        """Return a handler's policy as a step's changes it.

        The numbers are the step's, and the exceptions those of both.
        """
        if step is None:
            return self
        never = tuple(
            dict.fromkeys((*step.never, *(n for n in self.never if n not in step.always)))
        )
        always = tuple(dict.fromkeys((*step.always, *(n for n in self.always if n not in never))))
        return replace(step, never=never, always=always)

    def delay(
        self, attempt: int, jitter: float, error: BaseException | None = None
    ) -> float | None:
        """Return the seconds to wait after a run failed, or None to give up.

        Args:
            attempt: The number of the run, from 1.
            jitter: Drawn by the caller from [0, 1): full jitter, so that what failed together does
                not come back together.
            error: What it failed with.
        """
        named = () if error is None else map(_name, type(error).__mro__)
        nearest = next((name for name in named if name in (*self.never, *self.always)), None)
        if nearest in self.never or (attempt >= self.attempts and nearest not in self.always):
            return None
        waits = Backoff(self.backoff.total_seconds(), self.cap.total_seconds(), jitter=1.0)
        return waits.wait(attempt, jitter)


def _names(field: str, classes: object) -> tuple[str, ...]:
    if not isinstance(classes, tuple):
        raise DefinitionError(f"Retry: {field} must be a tuple of exception classes or their names")
    for each in classes:
        # `SystemExit` of a library is a failure like another; an interrupt is none.
        if not isinstance(each, str) and not (
            isinstance(each, type)
            and issubclass(each, BaseException)
            and not issubclass(each, KeyboardInterrupt)
        ):
            raise DefinitionError(
                f"Retry: {field} takes exception classes or their names, not {each!r}"
            )
    return tuple(each if isinstance(each, str) else _name(each) for each in classes)


def _name(exception: type) -> str:
    return f"{exception.__module__}.{exception.__qualname__}"


#: What a handler gets when neither it nor the step says otherwise.
DEFAULT_RETRY = Retry()
