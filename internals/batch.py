"""Batch: what a hop's deliveries become, gathered until it is written at the end."""

import logging
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from internals.failures import describe, storable
from internals.ids import uuid7
from internals.inbox import Delivery, DeliveryState, Inbox, Settlement
from internals.outbox import Outbox, woken
from internals.unit_of_work import UnitOfWork
from saga.envelope import Category, Envelope, saga_consumer
from saga.errors import Rejected
from saga.messages import Done, Faulted, Message, Refused
from saga.retry import Retry

logger = logging.getLogger(__name__)

#: Seconds until a delivery that this worker does not know is looked at again, by whom ever.
UNKNOWN_DELAY = 5.0

#: Seconds, at most, until a delivery that lost against another transaction is tried again.
_CONFLICT_DELAY = 0.2

#: Characters of a rejection's reason that are sent on.
_MAX_REASON = 2000


@dataclass(slots=True)
class Batch:
    """The settlements of one consumer's deliveries, and the messages that go with them."""

    consumer: str
    settlements: list[Settlement] = field(default_factory=list)
    messages: list[Envelope] = field(default_factory=list)

    def succeed(self, delivery: Delivery, sent: Iterable[Envelope]) -> None:
        """The handler returned: what it sent goes out, and the step's own command is answered."""
        message = delivery.message
        sent = list(sent)
        self.messages.extend(sent)
        # A handler that published what the saga waits for has answered: a "done" beside its "no"
        # could overtake it.
        answered = any(envelope.kind in message.awaits for envelope in sent)
        if message.id == message.root_id and Done.kind in message.awaits and not answered:
            self.messages.append(self._reply(message, Done()))
        self.settlements.append(Settlement(message.id, attempts=delivery.attempts))

    def reject(self, delivery: Delivery, rejection: Rejected) -> None:
        """The business said no: the saga hears of it, if there is one."""
        message = delivery.message
        reason = storable(str(rejection.reason))[:_MAX_REASON]
        if message.saga is not None:
            self.messages.append(self._reply(message, Refused(reason=reason)))
        self.settlements.append(
            Settlement(message.id, error=f"rejected: {reason}", attempts=delivery.attempts)
        )

    def fail(
        self,
        delivery: Delivery,
        error: Exception,
        retry: Retry,
        *,
        attempts: int,
        external: bool = False,
    ) -> None:
        """The handler failed for the `attempts`-th time: it is tried again later, or parked."""
        message = delivery.message
        policy = retry.overridden_by(message.retry)
        delay = policy.delay(attempts, random.random(), error)
        if delay is None:
            self.park(delivery, describe(error), attempts=attempts, external=external)
            logger.error(
                "%s: %s %s is parked after %d attempts: %s",
                self.consumer,
                message.kind,
                message.id,
                attempts,
                type(error).__name__,
                exc_info=error,
            )
            return
        self.settlements.append(
            Settlement(
                message.id,
                DeliveryState.PENDING,
                error=describe(error),
                # What is always tried again never uses up the attempts.
                attempts=min(attempts, policy.attempts - 1),
                delay=delay,
            )
        )
        logger.warning(
            "%s: %s %s failed in attempt %d, next in %.1f s: %s",
            self.consumer,
            message.kind,
            message.id,
            attempts,
            delay,
            type(error).__name__,
            exc_info=error,
        )

    def park(
        self, delivery: Delivery, error: str, *, attempts: int, external: bool = False
    ) -> None:
        """Park a delivery, and tell the saga it belongs to, if any.

        That a fault itself is parked is told to nobody: where a saga's state cannot be read, each
        telling would be parked as well, and so on for ever.
        """
        message = delivery.message
        self.settlements.append(
            Settlement(message.id, DeliveryState.PARKED, error=error, attempts=attempts)
        )
        own_fault = message.kind == Faulted.kind and message.sender == self.consumer
        if message.saga is not None and not own_fault:
            fault = Faulted(
                consumer=self.consumer,
                message_kind=message.kind,
                error=error[:500],
                external=external,
            )
            self.messages.append(self._reply(message, fault))

    def give_way(self, delivery: Delivery, error: Exception) -> None:
        """The database cannot now, or chose this one to give way: run it again, uncounted."""
        self.leave(delivery, describe(error), delay=_CONFLICT_DELAY * random.random())
        logger.info("%s: %s gave way and is run again", self.consumer, delivery.message.kind)

    def leave(self, delivery: Delivery, error: str, *, delay: float = UNKNOWN_DELAY) -> None:
        """Leave a delivery pending, due again in `delay` seconds, without counting a failure."""
        self.settlements.append(
            Settlement(
                delivery.message.id,
                DeliveryState.PENDING,
                error=error,
                attempts=delivery.attempts,
                delay=delay,
            )
        )

    def _reply(self, message: Envelope, reply: Message) -> Envelope:
        assert message.saga is not None
        return message.caused(
            reply,
            id=uuid7(),
            category=Category.REPLY,
            recipient=saga_consumer(message.saga),
            sender=self.consumer,
        )


def finish(
    unit: UnitOfWork,
    inbox: Inbox,
    outbox: Outbox,
    batch: Batch,
    *,
    sagas: Mapping[str, object] | None = None,
) -> frozenset[str]:
    """Write a batch: settle, send, and save sagas, in one statement.

    Returns the consumers that got something; their doorbells are to be rung after the commit.
    """
    if not (batch.settlements or batch.messages):
        return frozenset()
    messages = outbox.parameters(batch.messages)
    return frozenset(woken(inbox.finish(unit, batch.settlements, messages, sagas)))
