"""Handler run: one run of a handler, as the thread that watches it and the one that runs it see it."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from internals.handler import Handler
from internals.hop.lock_sampling import LockSampling
from internals.hop.outcome import Outcome
from saga.envelope import Envelope
from saga.errors import StillLocked, TookTooLong

logger = logging.getLogger(__name__)

#: So many of its leases an external handler may take that declares no limit.
_LEASES = 10
#: Seconds that it may take to write down what becomes of a delivery.
_SETTLING = 10.0


class Run:
    """One run of a handler.

    Args:
        consumer: Whose handler it is.
        message: What it handles.
        limit: Seconds that it may take.
        session: Returns the driver's connection that it writes with; None where it has none.
        give_up: Writes down what becomes of its delivery, in another thread; returns the consumers
            to ring.
        locked: Whether its delivery is locked by its session.
        patience: Seconds that it may take until its thread counts as hung; `limit` if not given.
    """

    __slots__ = (
        "began",
        "blocked",
        "consumer",
        "cut",
        "frozen",
        "give_up",
        "hung",
        "late",
        "limit",
        "lock",
        "locked",
        "message",
        "over",
        "patience",
        "sampling",
        "session",
        "settled",
        "thread",
        "told",
        "told_at",
        "woken",
    )

    def __init__(
        self,
        consumer: str,
        message: Envelope,
        limit: float,
        session: Callable[[], Any],
        give_up: Callable[["Run"], frozenset[str]],
        *,
        locked: bool,
        patience: float | None = None,
    ) -> None:
        self.consumer = consumer
        self.message = message
        self.limit = limit
        self.patience = limit if patience is None else patience
        self.session = session
        self.give_up = give_up
        self.began = time.monotonic()
        self.thread = threading.get_ident()
        self.lock = threading.Lock()
        self.locked = locked
        #: Whether it has reached its limit.
        self.late = False
        #: Whether its session waits for a lock, and did before.  One that is run again alone, if it
        #: is late, has not failed by that: it is not asked about until then.
        self.sampling = LockSampling(limit, often=self.patience == limit)
        #: Seconds of it in which the whole process stood still, which is not the handler's fault.
        self.frozen = 0.0
        #: Whether it has reached its limit waiting for a lock.
        self.blocked = False
        #: Whether it was told that it is late.
        self.told = False
        self.told_at = 0.0
        #: Set when somebody has tried to write down what becomes of its delivery.
        self.settled: threading.Event | None = None
        #: Whom to ring for that.
        self.woken: frozenset[str] = frozenset()
        #: Whether it has ended.
        self.over = False
        #: Whether its session was ended, since it did not end itself.
        self.cut = False
        #: Whether its thread is given up.
        self.hung = False

    @property
    def name(self) -> str:
        """What is run, for the log."""
        return f"{self.consumer}: {self.message.kind} {self.message.id}"

    @property
    def took(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    def ran(self, until: float) -> float:
        """Return its seconds until a moment up to which it is known when the process was frozen."""
        return until - self.began - self.frozen

    @property
    def error(self) -> StillLocked | TookTooLong:
        """Why it was ended at its limit."""
        if self.blocked:
            return StillLocked(
                f"it waited for a lock that another transaction holds, until its limit of "
                f"{self.limit:g} s"
            )
        return TookTooLong(self.limit)

    @property
    def at_limit(self) -> Outcome:
        """How it ended, if it is ended at its limit."""
        return Outcome(self.took, error=self.error, gives_way=self.blocked, ended=True)

    def outcome(self) -> frozenset[str]:
        """Wait until what becomes of its delivery is written, and return whom to ring for it."""
        if self.settled is not None and not self.settled.wait(_SETTLING):
            logger.warning("%s: its outcome is not stored yet", self.name)
        return self.woken


def seconds_of(handler: Handler, default: float) -> float:
    """Return the seconds that a run of a handler may take.

    One that acts outside the database may wait long for an answer, so where it declares no limit it
    has ten times its lease.
    """
    if handler.limit is not None:
        return handler.limit.total_seconds()
    return _LEASES * handler.lease.total_seconds() if handler.external else default
