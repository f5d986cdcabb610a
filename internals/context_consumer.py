"""The consumer of a context: runs its handlers over a claimed batch."""

import logging
import random
import time
from dataclasses import dataclass, field

from internals.consumer import Handled
from internals.context import Context, Handler
from internals.failures import describe, is_conflict, is_transient, storable
from internals.ids import uuid7
from internals.inbox import Delivery, DeliveryState, Inbox, Settlement
from internals.outbox import Outbox
from internals.unit_of_work import UnitOfWork
from internals.work import Work
from saga.envelope import Category, Envelope, saga_consumer
from saga.errors import Rejected
from saga.messages import Done, Faulted, Message, Refused

logger = logging.getLogger(__name__)

#: Seconds until a delivery that this worker does not know is looked at again, by whom ever.
UNKNOWN_DELAY = 5.0

#: Deliveries that a batch may have however fast the handlers are.
_FASTEST = 1024

#: Seconds, at most, until a delivery that lost against another transaction is tried again.
_CONFLICT_DELAY = 0.2


@dataclass(slots=True)
class _Batch:
    """What the handlers of one hop leave to be written."""

    #: Whether it has one delivery only, so that nobody else suffers if it is run again.
    alone: bool
    settlements: list[Settlement] = field(default_factory=list)
    messages: list[Envelope] = field(default_factory=list)


class ContextConsumer:
    """Handles the deliveries of one context.

    Args:
        context: Its handlers.
        inbox: Its deliveries.
        outbox: Where what they send is written.
        budget: Seconds after which a batch takes no further delivery, so that slow handlers
            make small batches.
    """

    def __init__(self, context: Context, inbox: Inbox, outbox: Outbox, *, budget: float) -> None:
        self.name = context.name
        self._handlers = context.handlers
        self._inbox = inbox
        self._outbox = outbox
        self._budget = budget
        self._pace = _FASTEST

    def handle(self, unit: UnitOfWork, limit: int) -> Handled:
        deliveries, full = self._inbox.claim(unit, min(limit, self._pace))
        batch = _Batch(alone=len(deliveries) == 1)
        until = time.monotonic() + self._budget
        for delivery in deliveries:
            if batch.settlements and time.monotonic() > until:
                break
            self._run(unit, delivery, batch)
        woken = self._outbox.send(unit, batch.messages)
        self._inbox.settle(unit, batch.settlements)
        settled = len(batch.settlements)
        left = len(deliveries) - settled
        # What a slow batch leaves was locked for nothing: take no more than fits the budget.
        if left:
            self._pace = settled
        elif full:
            self._pace = min(2 * self._pace, _FASTEST)
        return Handled(len(deliveries), settled, full or left > 0, frozenset(woken))

    def _run(self, unit: UnitOfWork, delivery: Delivery, batch: _Batch) -> None:
        """Run one delivery within a savepoint; what it wrote stays only if it returned."""
        message = delivery.message
        handler = self._handlers.get(message.kind)
        if handler is None:
            # Another worker, of a newer or an older release, may know it: never discard.
            error = f"no handler for {message.kind} in this worker"
            batch.settlements.append(later(delivery, error, UNKNOWN_DELAY))
            logger.warning("%s: %s is left for a worker that knows it", self.name, message.kind)
            return
        work = Work(unit, message, consumer=self.name, emits=handler.emits)
        try:
            with unit.handling():
                try:
                    handler.function(handler.message.from_json(message.payload), work)
                    work.finish()
                    for sent in work.sent:
                        self._outbox.check(sent)
                except BaseException:
                    work.abandon()
                    raise
        except Rejected as rejection:
            self._reject(delivery, rejection, batch)
        except Exception as error:
            if is_transient(error) and not batch.alone:
                raise  # the batch is run again, one by one
            if is_conflict(error):
                self._postpone(delivery, error, batch)
            else:
                self._fail(delivery, handler, error, batch)
        else:
            self._succeed(delivery, work, batch)

    def _succeed(self, delivery: Delivery, work: Work, batch: _Batch) -> None:
        message = delivery.message
        batch.messages.extend(work.sent)
        if message.id == message.root_id and Done.kind in message.awaits:
            batch.messages.append(self._reply(message, Done()))
        batch.settlements.append(Settlement(message.id, attempts=delivery.attempts))

    def _reject(self, delivery: Delivery, rejection: Rejected, batch: _Batch) -> None:
        message = delivery.message
        reason = storable(rejection.reason)
        if message.saga is not None:
            batch.messages.append(self._reply(message, Refused(reason=reason)))
        batch.settlements.append(
            Settlement(message.id, error=f"rejected: {reason}", attempts=delivery.attempts)
        )

    def _postpone(self, delivery: Delivery, error: Exception, batch: _Batch) -> None:
        """The database chose this one to give way: run it again, and count no failure."""
        delay = _CONFLICT_DELAY * random.random()
        batch.settlements.append(later(delivery, describe(error), delay))
        logger.info("%s: %s gave way and is run again", self.name, delivery.message.kind)

    def _fail(self, delivery: Delivery, handler: Handler, error: Exception, batch: _Batch) -> None:
        message = delivery.message
        attempts = delivery.attempts + 1
        delay = (message.retry or handler.retry).delay(attempts, random.random())
        text = describe(error)
        if delay is None:
            park(message, self.name, text, attempts, batch.settlements, batch.messages)
            logger.error(
                "%s: %s %s is parked after %d attempts: %s",
                self.name,
                message.kind,
                message.id,
                attempts,
                type(error).__name__,
                exc_info=error,
            )
            return
        batch.settlements.append(
            Settlement(
                message.id, DeliveryState.PENDING, error=text, attempts=attempts, delay=delay
            )
        )
        logger.warning(
            "%s: %s %s failed in attempt %d, next in %.1f s: %s",
            self.name,
            message.kind,
            message.id,
            attempts,
            delay,
            type(error).__name__,
            exc_info=error,
        )

    def _reply(self, message: Envelope, reply: Message) -> Envelope:
        return reply_to_saga(message, reply, self.name)


def later(delivery: Delivery, error: str, delay: float) -> Settlement:
    """Leave a delivery pending, due again in `delay` seconds, without counting a failure."""
    return Settlement(
        delivery.message.id,
        DeliveryState.PENDING,
        error=error,
        attempts=delivery.attempts,
        delay=delay,
    )


def reply_to_saga(message: Envelope, reply: Message, sender: str) -> Envelope:
    """Return a reply to the saga that this message belongs to."""
    assert message.saga is not None
    return message.caused(
        reply,
        id=uuid7(),
        category=Category.REPLY,
        recipient=saga_consumer(message.saga),
        sender=sender,
    )


def park(
    message: Envelope,
    consumer: str,
    error: str,
    attempts: int,
    settlements: list[Settlement],
    messages: list[Envelope],
) -> None:
    """Park a delivery, and tell the saga it belongs to, if any."""
    settlements.append(Settlement(message.id, DeliveryState.PARKED, error=error, attempts=attempts))
    if message.saga is not None:
        fault = Faulted(consumer=consumer, message_kind=message.kind, error=error[:500])
        messages.append(reply_to_saga(message, fault, consumer))
