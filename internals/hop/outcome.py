"""Outcome: how one run of a handler ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from internals.store.delivery import Delivery
from saga.envelope import Envelope
from saga.retry import Retry


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one run of a handler ended."""

    #: Seconds.
    took: float
    sent: Sequence[Envelope] = ()
    #: What it raised.
    error: BaseException | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """A run that failed."""

    delivery: Delivery
    error: BaseException
    #: The handler's policy.
    retry: Retry
    #: Failed runs, this one included.
    attempts: int
    #: Whether the handler acts outside the database.
    external: bool = False
    #: Seconds that it ran.
    took: float | None = None
