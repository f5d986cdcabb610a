"""Outcome: how one run of a handler ended."""

from collections.abc import Sequence
from dataclasses import dataclass

from internals.database.errors import is_server_trouble
from internals.hop.failure_isolation import is_too_slow
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
    #: Whether that is trouble of the database's: the run is not counted, but for many in a row.
    gives_way: bool = False
    #: Whether it was ended at its limit: the next run is in no batch.
    ended: bool = False
    #: Of one that took longer than its lease, the words for it.
    overran: str | None = None

    @classmethod
    def raised(cls, took: float, error: BaseException) -> "Outcome":
        """Return how a run ended that raised in the transaction of its batch."""
        gives_way = is_server_trouble(error) and not is_too_slow(error)
        return cls(took, error=error, gives_way=gives_way)


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
