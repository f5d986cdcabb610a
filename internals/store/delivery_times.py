"""Delivery times: what a delivery waited for until it was done, by the times in its row.

All times are of one Postgres' clock.  A context with a database of its own has another one: of its
deliveries it is known when they were forwarded, and how long the handler ran.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that a delivery that is done spent with each; together from its sending to its end."""

    #: Until it was due: a delay, the attempts that failed before, others of its key.
    due: float
    #: Until the relay rang for it, where it had; or it was forwarded to a database of its own.
    outbox: float
    #: Until a worker claimed it; of one in a database of its own, the way there and back besides.
    queue: float
    #: With the others of its batch, until that was written.
    batch: float
    #: While its handler ran, the last time.
    handler: float


def waited(
    *,
    sent_at: datetime,
    due_at: datetime | None,
    forwarded: bool = False,
    ready_at: datetime | None,
    rung_at: datetime | None,
    claimed_at: datetime | None,
    done_at: datetime,
    took: float | None,
) -> Waits:
    """Return what a delivery that is done waited for.

    Args:
        sent_at: When its message was sent.
        due_at: When it was due, the last time; or the end of a lease.
        forwarded: Whether it was handled in a database of its context's own.
        ready_at: When it was due, if `due_at` does not say.
        rung_at: When the relay rang for it, the first time since it was due.
        claimed_at: When the worker that handled it last took it, or it was forwarded to a database
            of its own; None where it was consumed by the transaction that sent it.
        done_at: When it was done.
        took: Seconds that its handler ran.
    """
    handler = took or 0.0
    due = max(sent_at, ready_at or (None if forwarded else due_at) or sent_at)
    # A claim's time is the begin of its transaction, in which what it handles may have been sent.
    claimed = max(due, claimed_at or done_at - timedelta(seconds=handler))
    told = min(max(due, rung_at or due), claimed)
    if forwarded:
        told, claimed = claimed, max(claimed, done_at - timedelta(seconds=handler))
    return Waits(
        due=_seconds(sent_at, due),
        outbox=_seconds(due, told),
        queue=_seconds(told, claimed),
        batch=max(_seconds(claimed, done_at) - handler, 0.0),
        handler=handler,
    )


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)
