"""Waits: what a delivery waited for until it was done, told from the times that its row has.

All times are of one Postgres' clock.  A context with a database of its own has another one: of its
deliveries it is known when they were forwarded, and how long the handler ran.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from internals.remote_sql import FORWARDING_YEAR


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds that a delivery that is over spent with each; together from its sending to its end."""

    #: Until it was due: a delay, the attempts that failed before, others of its key.
    due: float
    #: Until somebody was told of it: the relay, where the sender's doorbell was not heard, or
    #: whoever forwarded it to a database of its own.
    outbox: float
    #: Until a worker claimed it; of one in a database of its own, the way there and back besides.
    queue: float
    #: With the others of its batch.
    batch: float
    #: While its handler ran, the last time.
    handler: float


def waited(
    *,
    sent_at: datetime,
    due_at: datetime,
    rung_at: datetime | None,
    claimed_at: datetime | None,
    started_at: datetime | None,
    done_at: datetime | None,
    took: float | None,
) -> Waits | None:
    """Return what a delivery waited for; None for one that is not over.

    Args:
        sent_at: When its message was sent.
        due_at: When it was due, the last time; a time that never comes for one that was forwarded.
        rung_at: When the relay rang for it, the first time since it was due.
        claimed_at: When the worker that handled it last took it; None where it was handled in a
            database of its own, or consumed by the transaction that sent it.
        started_at: When it was forwarded to a database of its own, if it was.
        done_at: When it was done, parked or revoked.
        took: Seconds that its handler ran.
    """
    if done_at is None:
        return None
    handler = took or 0.0
    due = max(sent_at, due_at) if due_at.year < FORWARDING_YEAR else sent_at
    if claimed_at is None:
        told, claimed = max(due, started_at or due), done_at - timedelta(seconds=handler)
    else:
        told, claimed = max(due, rung_at or due), claimed_at
    told = min(told, claimed)
    return Waits(
        due=_seconds(sent_at, due),
        outbox=_seconds(due, told),
        queue=_seconds(told, claimed),
        batch=max(_seconds(claimed, done_at) - handler, 0.0),
        handler=handler,
    )


def _seconds(start: datetime, end: datetime) -> float:
    return max((end - start).total_seconds(), 0.0)
