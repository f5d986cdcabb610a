"""Uncounted retries: runs that the database ended for its own reasons, and how long they are free.

A transaction that lost against another one, or a server without room, says nothing about the
handler: the delivery is run again and nothing is counted.  Not for ever, since a statement may be
the very reason why it always loses, or why there is never room.  So the wait doubles from run to
run, and after a number of runs in a row each further one counts as an attempt.
"""

from dataclasses import dataclass

from internals.database.errors import is_lock_timeout, is_lost_conflict
from saga.backoff import Backoff
from saga.errors import StillLocked

#: Runs in a row that may give way to a server in trouble, before they count: about 20 minutes.
YIELDS = 20

#: Seconds before the second run.  A wait is never shorter than the one before it could be, so the
#: waits grow and yet no two that collided meet again.
_FIRST = 0.2
_JITTER = 0.5


@dataclass(frozen=True, slots=True)
class _Course:
    """How runs of one kind give way."""

    backoff: Backoff
    #: For one run that a server in trouble may end, so many may be lost in conflicts.
    times: int


#: Others' transactions are short, and a lock of one that stands still is free before long: a run that
#: waits much longer loses its place for nothing.  All three end after about the same time.
_CONFLICT = _Course(Backoff(_FIRST, cap=5.0, jitter=_JITTER), 12)
_LOCKED = _Course(Backoff(_FIRST, cap=12.0, jitter=_JITTER), 6)
_TROUBLE = _Course(Backoff(_FIRST, cap=120.0, jitter=_JITTER), 1)
#: Runs that waited for another's lock make the waits grow up to here, and are never many.
_WAITS = 5
_KEY = Backoff(_FIRST, cap=_FIRST * 2 ** (_WAITS - 1), jitter=_JITTER)


def wait(yields: int, error: BaseException, drawn: float) -> float:
    """Return the seconds until the next run, after `yields` runs in a row gave way.

    `drawn` is a random number from [0, 1).
    """
    return _course(error).backoff.wait(yields, drawn)


def is_over(yields: int, error: BaseException, limit: int) -> bool:
    """Whether the last of `yields` runs in a row is to be counted as an attempt.

    Args:
        yields: Runs in a row that gave way, the last one included.
        error: What ended the last one.
        limit: Those that are free, where the server is in trouble.
    """
    return yields > limit * _course(error).times


def wait_for_key(yields: int, drawn: float) -> tuple[int, float]:
    """Return what is noted of a run that needed a lock of another's, and the seconds until the next.

    Args:
        yields: Runs in a row that gave way before it.
        drawn: As in `wait`.
    """
    noted = max(yields, min(yields + 1, _WAITS))
    return noted, _KEY.wait(noted, drawn)


def _course(error: BaseException) -> _Course:
    if is_lost_conflict(error):
        return _CONFLICT
    return _LOCKED if is_lock_timeout(error) or isinstance(error, StillLocked) else _TROUBLE
