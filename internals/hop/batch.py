"""Batch: what a hop's deliveries become, gathered until it is written at the end."""

import logging
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from uuid import UUID

from internals.database.errors import describe, storable
from internals.database.lock_waits import KEY_WAIT
from internals.hop.outcome import Failed, Outcome
from internals.hop.uncounted_retries import YIELDS, is_over, wait
from internals.ids import uuid7
from internals.store.delivery import Delivery, DeliveryOutcome, DeliveryState, Settlement
from internals.store.open_deliveries import Closing
from saga.causal import is_counted, is_undoing
from saga.envelope import Category, Envelope, saga_consumer
from saga.errors import Rejected, TooDeep
from saga.messages import Done, Faulted, Message, Refused, Revoked, Undo
from saga.retry import Retry

logger = logging.getLogger(__name__)


_REVOKED = (DeliveryOutcome.UNDONE, DeliveryOutcome.GIVEN_UP)

#: Characters of a rejection's reason that are sent on.
_MAX_REASON = 2000


@dataclass(slots=True)
class Batch:
    """The settlements of one consumer's deliveries, and the messages that go with them."""

    consumer: str
    #: Runs of a delivery in a row that may give way to the database before they count.
    yields: int = YIELDS
    settlements: list[Settlement] = field(default_factory=list)
    messages: list[Envelope] = field(default_factory=list)
    #: Of the settlements those that are counted.
    closed: list[Closing] = field(default_factory=list)
    #: Ordering keys of deliveries that are over, so that the next may go on.
    keys: set[str] = field(default_factory=set)
    #: Runs that failed of commands that their saga may have given up meanwhile.
    failed: list[Failed] = field(default_factory=list)
    #: Handlers that raised without a savepoint, by message and failed runs so far: they are not run
    #: again where the batch is.
    known: dict[tuple[UUID, int], Outcome] = field(default_factory=dict)
    #: How long an ordering key is waited for; None for as long as the transaction waits for any lock.
    key_wait: str | None = KEY_WAIT

    @property
    def has_result(self) -> bool:
        """Whether a delivery is over by it: one that failed or gave way is not."""
        return any(settled.state is DeliveryState.DONE for settled in self.settlements)

    def succeed(
        self,
        delivery: Delivery,
        sent: Iterable[Envelope],
        *,
        took: float | None = None,
        overran: str | None = None,
    ) -> None:
        """The handler returned: what it sent goes out, and the step's own command is answered.

        If it took longer than its lease, `overran` says so.
        """
        message = delivery.message
        sent = list(sent)
        self.messages.extend(sent)
        # A handler that published what the saga waits for has answered: a "done" beside its "no"
        # could overtake it.
        answered = any(envelope.kind in message.awaits for envelope in sent)
        if message.id == message.root_id and Done.kind in message.awaits and not answered:
            self.messages.append(self._reply(message, Done()))
        # Beside "settled" a step awaits what says no, and nothing else.
        outcome = DeliveryOutcome.HANDLED if overran is None else DeliveryOutcome.OVERRAN
        self._close(delivery, outcome, error=overran, took=took, refuses=answered)

    def reject(self, delivery: Delivery, rejection: Rejected, *, took: float | None = None) -> None:
        """The business said no: the saga receives a rejection, if there is one."""
        message = delivery.message
        reason = storable(str(rejection.reason))[:_MAX_REASON]
        if is_undoing(message.awaits):
            # What was to be undone stands, and nobody said beforehand that it would; or what the
            # undo set off is not done.  A saga cannot turn back any further.
            undo = message.kind == Undo.kind
            error = f"{'its undo was rejected' if undo else 'rejected below an undo'}: {reason}"
            self.park(delivery, error, attempts=delivery.attempts + 1)
            return
        if message.saga is not None:
            self.messages.append(self._reply(message, Refused(reason=reason)))
        error = f"rejected: {reason}"
        self._close(delivery, DeliveryOutcome.REJECTED, error=error, took=took, refuses=True)

    def stand(self, delivery: Delivery, reason: str) -> None:
        """There is no undo of what a handler did: it is noted for the report."""
        self._close(delivery, DeliveryOutcome.NO_UNDO, error=f"stands: {reason}")

    def take_back(self, delivery: Delivery) -> None:
        """What it belongs to is being undone, so it is not handled any more."""
        self._close(delivery, DeliveryOutcome.UNDONE, error="revoked: its step was undone")

    def note_failed(self, failed: Failed) -> None:
        """The handler failed.  For a saga's own command `judge_failed` decides at the end what follows."""
        message = failed.delivery.message
        if message.saga is not None and message.id == message.root_id:
            self.failed.append(failed)
        else:
            self.fail(failed)

    def give_up(
        self, delivery: Delivery, error: str | None = None, *, took: float | None = None
    ) -> None:
        """Its saga gave the command up, so no run of it is started any more, nor once more.

        The error is that of its last run, if that failed.
        """
        why = "revoked: its step was given up"
        if error is not None:
            why = f"{error}; {why}"
        revoked = Revoked(revoked=True, started=delivery.started)
        self.messages.append(self._reply(delivery.message, revoked))
        # The saga receives it; the news that all is done could overtake it.
        self._close(delivery, DeliveryOutcome.GIVEN_UP, error=why, took=took, refuses=True)

    def fail(
        self, failed: Failed, *, yields: int = 0, least: float = 0.0, alone: bool = False
    ) -> None:
        """The handler failed: it is tried again later, or parked.

        Args:
            failed: The run.
            yields: Runs in a row that gave way to the database, if this one did.
            least: Seconds until the next run at least.
            alone: Whether the next run is to be in no batch.
        """
        message, error, attempts = failed.delivery.message, failed.error, failed.attempts
        policy = failed.retry.overridden_by(message.retry)
        delay = policy.delay(attempts, random.random(), error)
        if isinstance(error, TooDeep):
            delay = None  # however often it is run, it is as deep
        if delay is None:
            self.park(
                failed.delivery,
                describe(error),
                outcome=DeliveryOutcome.parked_for(error),
                attempts=attempts,
                external=failed.external,
                yields=yields,
            )
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
        delay = max(delay, least)
        self.settlements.append(
            Settlement(
                message.id,
                DeliveryState.PENDING,
                DeliveryOutcome.FAILED,
                error=describe(error),
                # What is always tried again never uses up the attempts.
                attempts=min(attempts, policy.attempts - 1),
                delay=delay,
                took=failed.took,
                yields=yields,
                alone=alone,
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
        self,
        delivery: Delivery,
        error: str,
        *,
        outcome: DeliveryOutcome = DeliveryOutcome.FAILED,
        attempts: int,
        external: bool = False,
        yields: int = 0,
    ) -> None:
        """Park a delivery, and tell the saga it belongs to, if any.

        That a fault itself is parked is told to nobody: where a saga's state cannot be read, each
        telling would be parked as well, and so on for ever.
        """
        message = delivery.message
        parked = DeliveryState.PARKED
        self.settlements.append(
            Settlement(message.id, parked, outcome, error=error, attempts=attempts, yields=yields)
        )
        self._count(message, closes=False)
        own_fault = message.kind == Faulted.kind and message.sender == self.consumer
        if message.saga is not None and not own_fault:
            fault = Faulted(
                consumer=self.consumer,
                message_kind=message.kind,
                error=error[:500],
                external=external,
            )
            self.messages.append(self._reply(message, fault))

    def give_way(
        self, delivery: Delivery, error: BaseException, retry: Retry, *, external: bool = False
    ) -> None:
        """The database cannot now, or chose this one to give way: it is run again.

        Nothing is counted until that has happened too often in a row (`internals.hop.uncounted_retries`).
        """
        kind, yields = delivery.message.kind, delivery.yields + 1
        delay = wait(yields, error, random.random())
        if is_over(yields, error, self.yields):
            failed = Failed(delivery, error, retry, delivery.attempts + 1, external)
            self.fail(failed, yields=yields, least=delay)
            return
        self.leave(delivery, describe(error), delay=delay, yields=yields)
        logger.info("%s: %s gave way and is run again in %.1f s", self.consumer, kind, delay)

    def leave(
        self,
        delivery: Delivery,
        error: str,
        *,
        delay: float,
        outcome: DeliveryOutcome = DeliveryOutcome.DEFERRED,
        yields: int = 0,
        alone: bool = False,
    ) -> None:
        """Leave a delivery pending, due again in `delay` seconds, without counting a failure."""
        self.settlements.append(
            Settlement(
                delivery.message.id,
                DeliveryState.PENDING,
                outcome,
                error=error,
                attempts=delivery.attempts,
                delay=delay,
                yields=yields,
                alone=alone,
            )
        )

    def leave_to_others(self, delivery: Delivery, reason: str, *, delay: float) -> None:
        """Leave a delivery to a worker of another release, which may know it."""
        self.leave(delivery, reason, delay=delay, outcome=DeliveryOutcome.UNHANDLED)

    def _close(
        self,
        delivery: Delivery,
        outcome: DeliveryOutcome,
        *,
        error: str | None = None,
        took: float | None = None,
        refuses: bool = False,
    ) -> None:
        message = delivery.message
        state = DeliveryState.REVOKED if outcome in _REVOKED else DeliveryState.DONE
        self.settlements.append(
            Settlement(
                message.id, state, outcome, error=error, attempts=delivery.attempts, took=took
            )
        )
        self._count(message, refuses=refuses)
        if delivery.ordering_key is not None:
            self.keys.add(delivery.ordering_key)

    def _count(self, message: Envelope, *, closes: bool = True, refuses: bool = False) -> None:
        if message.awaits and is_counted(message.awaits):
            assert message.root_id is not None
            # The saga hears the no; that all else is done could overtake it.
            self.closed.append(Closing(message.root_id, message.id, closes, quiet=refuses))

    def _reply(self, message: Envelope, reply: Message) -> Envelope:
        assert message.saga is not None
        return message.caused(
            reply,
            id=uuid7(),
            category=Category.REPLY,
            recipient=saga_consumer(message.saga),
            sender=self.consumer,
        )
