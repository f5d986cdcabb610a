"""Leased deliveries: those that are not handled in the transaction that claimed them.

A handler that acts outside the database must not hold a transaction open over its call, and one
that has killed its worker must be counted before it is run once more.  For both:

1. The claim commits a lease: a random id, and the time until which nobody else takes the delivery.
2. The handler runs.
3. One transaction, if the lease is still ours: effects, sends and settlement.

While the handler runs, its lease is renewed (`internals.heartbeat`).  Cut anywhere, the delivery is
due again when the lease ends; the handler is then given the same idempotency key.  Whoever has a
result first settles it, though its lease may have gone to another by then.
"""

import logging
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from internals.batch import Batch, Ending, Failed, finish
from internals.causal_sql import OVERRAN
from internals.context import Handler
from internals.database import Database
from internals.failures import is_server_trouble, is_transient
from internals.giving_way import YIELDS
from internals.inbox import Delivery, Inbox
from internals.lock_waits import KEY_WAIT
from internals.outbox import Outbox
from internals.transactions import Boundary, OpenTransaction
from internals.unit_of_work import UnitOfWork
from internals.watch import Run, Watch
from internals.work import Around, Work
from saga.errors import IdConflict, Rejected, TookTooLong

logger = logging.getLogger(__name__)

#: So many of its leases an external handler may take that declares no limit.
_LEASES = 10


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that this worker has to itself for a while."""

    delivery: Delivery
    handler: Handler
    #: Seconds.
    seconds: float
    lease: UUID = field(default_factory=uuid4)


def run_leased(
    database: Database,
    leased: Leased,
    inbox: Inbox,
    outbox: Outbox,
    around: Around,
    ending: Ending = finish,
    *,
    watch: Watch,
    yields: int = YIELDS,
) -> frozenset[str]:
    """Run the handler and settle the delivery; returns the consumers to ring.

    If the lease has gone to another, a failure is nothing: whoever has it does the work.  A result
    counts all the same, unless there is one by now.
    """
    delivery, handler = leased.delivery, leased.handler
    # A call that was made is not to be made again for a lock that is held a little longer.
    key_wait = None if handler.external else KEY_WAIT
    batch = Batch(inbox.consumer, yields, key_wait=key_wait)
    opened = OpenTransaction(database, Boundary.LEASED)
    handling = ExitStack()

    no_connection: list[Exception] = []

    def begin() -> UnitOfWork:
        try:
            unit = opened.begin()
        except Exception as error:  # the pool's trouble, or the server's, and not the handler's
            no_connection.append(error)
            raise
        # What it writes is all that there is in this transaction, which is rolled back whole.
        handling.enter_context(unit.handling(careful=False))
        return unit

    began = time.monotonic()
    work = Work(delivery.message, consumer=inbox.consumer, emits=handler.emits, begin=begin)

    def handle() -> None:
        if not handler.external:
            work.begin()
        handler.run(delivery.message, work)
        work.finish()

    def give_up(run: Run) -> None:
        other = OpenTransaction(database, Boundary.LEASED)
        _settle(other, leased, _took_too_long(run, leased), inbox, outbox, ending)

    limit = seconds_of(handler, watch.limit)
    run = Run(inbox.consumer, delivery.message, limit, opened.driver, give_up)
    try:
        with handling, around(work), work:
            watch.over(run, handle)
            outbox.admit(work.sent)
    except BaseException as error:
        lost = opened.lost
        opened.roll_back()
        if run.late:
            batch = _took_too_long(run, leased)
        elif isinstance(error, Rejected):
            batch.reject(delivery, error, took=time.monotonic() - began)
        elif not isinstance(error, Exception):
            raise  # the worker is told to stop: the lease runs out
        elif lost or is_server_trouble(error) or (no_connection and is_transient(error)):
            batch.give_way(delivery, error, handler.retry, external=handler.external)
        else:
            batch.note_failed(_failed(leased, error, time.monotonic() - began))
    else:
        took = time.monotonic() - began
        batch.succeed(delivery, work.sent, took=took, note=_overran(leased, took))
    try:
        return _settle(opened, leased, batch, inbox, outbox, ending)
    except Exception as error:
        again = _not_settled(leased, error, time.monotonic() - began, Batch(inbox.consumer, yields))
        if again is None:
            raise
        opened = OpenTransaction(database, Boundary.LEASED)
        return _settle(opened, leased, again, inbox, outbox, ending)


def _took_too_long(run: Run, leased: Leased) -> Batch:
    """Return the batch of a handler that was ended: it is tried again, and not among others."""
    delivery, handler = leased.delivery, leased.handler
    batch = Batch(run.consumer)
    batch.fail(
        delivery,
        TookTooLong(run.limit),
        handler.retry,
        attempts=delivery.attempts + 1,
        external=handler.external,
        took=run.took,
        alone=True,
    )
    return batch


def seconds_of(handler: Handler, default: float) -> float:
    """Return the seconds that a run of a handler may take.

    One that acts outside the database may wait long for an answer, so where it declares no limit it
    has ten times its lease.
    """
    if handler.limit is not None:
        return handler.limit.total_seconds()
    return _LEASES * handler.lease.total_seconds() if handler.external else default


def _settle(
    opened: OpenTransaction,
    leased: Leased,
    batch: Batch,
    inbox: Inbox,
    outbox: Outbox,
    ending: Ending,
) -> frozenset[str]:
    unit = opened.begin()
    try:
        message = leased.delivery.message
        ours = inbox.hold(unit, [message.id], leased.lease).get(message.id)
        if ours is None or not (ours or batch.has_result):
            opened.roll_back()
            why = "has a result by now" if ours is None else "is run elsewhere by now"
            logger.warning(
                "%s: %s %s %s, and %s", inbox.consumer, message.kind, message.id, OVERRAN, why
            )
            return frozenset()
        woken = ending(unit, inbox, outbox, batch)
    except BaseException:
        opened.roll_back()
        raise
    opened.commit()
    return woken


def _not_settled(leased: Leased, error: Exception, took: float, batch: Batch) -> Batch | None:
    """Return what is written instead of a settlement that failed; None if nobody can say."""
    if isinstance(error, IdConflict):
        batch.note_failed(_failed(leased, error, took))
    elif is_transient(error):
        # Whether it was committed is found out by reading; if not, it is run again, uncounted.
        batch.give_way(
            leased.delivery, error, leased.handler.retry, external=leased.handler.external
        )
    else:
        return None
    return batch


def _failed(leased: Leased, error: Exception, took: float) -> Failed:
    delivery, handler = leased.delivery, leased.handler
    return Failed(delivery, error, handler.retry, delivery.attempts + 1, handler.external, took)


def _overran(leased: Leased, took: float) -> str | None:
    """Return what is to be noted of a run that took this long, if anything is."""
    if took <= leased.seconds:
        return None
    note = f"{OVERRAN}: {took:.1f} s, and the lease is of {leased.seconds:g} s"
    logger.warning(
        "the handler of %s %s %s", leased.delivery.message.kind, leased.delivery.message.id, note
    )
    return note
