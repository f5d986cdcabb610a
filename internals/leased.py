"""Leased deliveries: those that are not handled in the transaction that claimed them.

A handler that acts outside the database must not hold a transaction open over its call, and one
that has killed its worker must be counted before it is run once more.  For both:

1. The claim commits a lease: a random id, and the time until which nobody else takes the delivery.
2. The handler runs.
3. One transaction, if the lease is still ours: effects, sends and settlement.

Cut anywhere, the delivery is due again when the lease ends; the handler is then given the same
idempotency key.
"""

import logging
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID, uuid4

from internals.batch import Batch, Ending, finish
from internals.blame import PROVED_AFTER, is_interrupt, is_refusal, is_too_slow
from internals.context import Handler
from internals.database import Database
from internals.failures import is_server_trouble, is_transient
from internals.inbox import Delivery, Inbox
from internals.outbox import Outbox
from internals.transactions import Boundary, OpenTransaction
from internals.unit_of_work import UnitOfWork
from internals.work import Around, Work
from saga.errors import Rejected

logger = logging.getLogger(__name__)

#: Seconds between two tries to settle what could not be done; it doubles up to the second.
_SHORTEST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


#: Writes a batch in a transaction and commits it; returns the consumers to ring.
_Settle = Callable[[OpenTransaction, Batch], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Leased:
    """A delivery that this worker has to itself for a while."""

    delivery: Delivery
    handler: Handler
    #: How long others leave it alone, in seconds.
    seconds: float
    #: As the context says.
    alone: bool = False
    lease: UUID = field(default_factory=uuid4)


def run_leased(
    database: Database,
    leased: Leased,
    inbox: Inbox,
    outbox: Outbox,
    around: Around,
    ending: Ending = finish,
) -> frozenset[str]:
    """Run the handler and settle the delivery; returns the consumers to ring.

    If the lease ended meanwhile, nothing is written: whoever has it now does the work.
    """
    delivery, handler = leased.delivery, leased.handler
    batch = Batch(inbox.consumer)
    opened = OpenTransaction(database, Boundary.LEASED)
    handling, outside = ExitStack(), ExitStack()
    lifts: list[Callable[[], None]] = []

    no_connection: list[Exception] = []

    def begin() -> UnitOfWork:
        for lift in lifts:
            lift()
        try:
            unit = opened.begin()
        except Exception as error:  # the pool's trouble, or the server's, and not the handler's
            no_connection.append(error)
            raise
        if leased.alone:
            unit.expect_settings()
        # What it writes is all that there is in this transaction, which is rolled back whole.
        handling.enter_context(unit.handling(careful=False))
        return unit

    returned = False
    began = time.monotonic()
    work = Work(delivery.message, consumer=inbox.consumer, emits=handler.emits, begin=begin)
    try:
        with handling, outside, work:
            if handler.external:
                lifts.append(outside.enter_context(database.outside()))
            else:
                work.begin()
            with around(work):
                handler.run(delivery.message, work)
                work.finish()
            if time.monotonic() - began > PROVED_AFTER:
                opened.prove()
            for sent in work.sent:
                outbox.check(sent)
    except BaseException as error:
        slow, lost = is_too_slow(error), opened.lost
        opened.roll_back()
        if isinstance(error, Rejected):
            batch.reject(delivery, error, took=time.monotonic() - began)
        elif is_interrupt(error):
            raise  # the worker is told to stop: the lease runs out
        elif not slow and (
            lost or is_server_trouble(error) or (no_connection and is_transient(error))
        ):
            batch.give_way(delivery, error)
        else:
            batch.fail(
                delivery,
                error,
                handler.retry,
                attempts=delivery.attempts + 1,
                external=handler.external,
                took=time.monotonic() - began,
            )
    else:
        batch.succeed(delivery, work.sent, took=time.monotonic() - began)
        returned = True
    settle = partial(_settle, leased=leased, inbox=inbox, outbox=outbox, ending=ending)
    return _settle_once(opened, database, leased, batch, settle, returned=returned)


def _settle_once(
    opened: OpenTransaction,
    database: Database,
    leased: Leased,
    batch: Batch,
    settle: _Settle,
    *,
    returned: bool,
) -> frozenset[str]:
    """Settle the delivery; if the database refuses that, then as failed or as given way."""
    delivery, handler = leased.delivery, leased.handler
    try:
        return settle(opened, batch)
    except Exception as error:
        again = Batch(batch.consumer)
        if returned and is_refusal(error):
            # It is the handler's, since there is nothing else in the transaction.
            again.fail(
                delivery,
                error,
                handler.retry,
                attempts=delivery.attempts + 1,
                external=handler.external,
            )
        elif not is_transient(error):
            raise
        elif returned:
            # Whether it was committed is found out by reading; if not, it is run again, uncounted.
            again.give_way(delivery, error)
        else:
            again = batch  # what it failed with is known, and nothing of it was written
    return _settle_anyhow(database, leased, again, settle)


def _settle_anyhow(
    database: Database, leased: Leased, batch: Batch, settle: _Settle
) -> frozenset[str]:
    """Settle what is not done, for as long as the lease may be ours.

    The start is counted by now, and would look like a death if this were lost in a conflict.
    """
    until, pause = time.monotonic() + leased.seconds, _SHORTEST_PAUSE
    while True:
        opened = OpenTransaction(database, Boundary.LEASED)
        try:
            return settle(opened, batch)
        except Exception as error:
            if not is_transient(error) or time.monotonic() > until:
                raise
        time.sleep(random.uniform(0, pause))
        pause = min(2 * pause, _LONGEST_PAUSE)


def _settle(
    opened: OpenTransaction,
    batch: Batch,
    *,
    leased: Leased,
    inbox: Inbox,
    outbox: Outbox,
    ending: Ending,
) -> frozenset[str]:
    unit = opened.begin()
    try:
        message = leased.delivery.message
        if not inbox.hold(unit, message.id, leased.lease):
            opened.roll_back()
            logger.warning("%s: the lease of %s ended", inbox.consumer, message.kind)
            return frozenset()
        woken = ending(unit, inbox, outbox, batch)
    except BaseException:
        opened.roll_back()
        raise
    opened.commit()
    return woken
