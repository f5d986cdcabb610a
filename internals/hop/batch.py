"""Batch: what a hop's deliveries become, gathered until it is written at the end."""

import logging
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from uuid import UUID

from internals.database.errors import describe, storable
from internals.database.lock_waits import KEY_WAIT, GaveWay
from internals.database.unit_of_work import UnitOfWork
from internals.hop.uncounted_retries import YIELDS, is_over, wait, wait_for_key
from internals.ids import uuid7
from internals.store.causal_undo import STANDS
from internals.store.delivery import Delivery, DeliveryState, Settlement
from internals.store.inbox import Inbox
from internals.store.open_deliveries import Closing
from internals.store.outbox import Heard, Outbox, held_up, woken
from saga.causal import is_counted, is_undoing
from saga.envelope import Category, Envelope, saga_consumer
from saga.errors import Rejected, TooDeep
from saga.messages import Done, Faulted, Message, Refused, Revoked, Undo
from saga.retry import Retry

logger = logging.getLogger(__name__)


#: Characters of a rejection's reason that are sent on.
_MAX_REASON = 2000


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
    """A run that failed; the fields are the arguments of `Batch.fail`."""

    delivery: Delivery
    error: BaseException
    retry: Retry
    attempts: int
    external: bool = False
    took: float | None = None


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
        note: str | None = None,
    ) -> None:
        """The handler returned: what it sent goes out, and the step's own command is answered.

        The note is kept with the delivery; it must begin as the undo knows it.
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
        self._close(delivery, error=note, took=took, refuses=answered)

    def reject(self, delivery: Delivery, rejection: Rejected, *, took: float | None = None) -> None:
        """The business said no: the saga hears of it, if there is one."""
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
        self._close(delivery, error=f"rejected: {reason}", took=took, refuses=True)

    def stand(self, delivery: Delivery, reason: str) -> None:
        """There is no undo of what a handler did: it is noted for the report."""
        self._close(delivery, error=f"{STANDS}{reason}")

    def take_back(self, delivery: Delivery) -> None:
        """What it belongs to is being undone, so it is not handled any more."""
        self._close(delivery, DeliveryState.REVOKED, error="revoked: its step was undone")

    def note_failed(self, failed: Failed) -> None:
        """The handler failed.  Of a saga's own command it is judged at the end what that means."""
        message = failed.delivery.message
        if message.saga is not None and message.id == message.root_id:
            self.failed.append(failed)
        else:
            self._fail(failed)

    def judge_failed(self, unit: UnitOfWork, inbox: Inbox) -> None:
        """Try failed commands again or park them, but for those that were given up meanwhile.

        As late as can be, since who gives one up waits from here on until the commit.
        """
        if not self.failed:
            return
        given_up = inbox.given_up(unit, (f.delivery.message.id for f in self.failed))
        for failed in self.failed:
            started = given_up.get(failed.delivery.message.id)
            if started is None:
                self._fail(failed)
                continue
            delivery = replace(failed.delivery, given_up=True, started=started)
            self.give_up(delivery, describe(failed.error), took=failed.took)
        self.failed.clear()

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
        # The saga hears of it; that all is done could overtake it.
        self._close(delivery, DeliveryState.REVOKED, error=why, took=took, refuses=True)

    def fail(
        self,
        delivery: Delivery,
        error: BaseException,
        retry: Retry,
        *,
        attempts: int,
        external: bool = False,
        took: float | None = None,
        yields: int = 0,
        least: float = 0.0,
        alone: bool = False,
    ) -> None:
        """The handler failed for the `attempts`-th time: it is tried again later, or parked.

        Args:
            delivery: What it handled.
            error: How it failed.
            retry: The handler's policy.
            attempts: Failed runs, this one included.
            external: Whether it acts outside the database.
            took: Seconds that it ran.
            yields: Runs in a row that gave way to the database, if this one did.
            least: Seconds until the next run at least.
            alone: Whether the next run is to be in no batch.
        """
        message = delivery.message
        policy = retry.overridden_by(message.retry)
        delay = policy.delay(attempts, random.random(), error)
        if isinstance(error, TooDeep):
            delay = None  # however often it is run, it is as deep
        if delay is None:
            self.park(
                delivery, describe(error), attempts=attempts, external=external, yields=yields
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
                error=describe(error),
                # What is always tried again never uses up the attempts.
                attempts=min(attempts, policy.attempts - 1),
                delay=delay,
                took=took,
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
        attempts: int,
        external: bool = False,
        yields: int = 0,
    ) -> None:
        """Park a delivery, and tell the saga it belongs to, if any.

        That a fault itself is parked is told to nobody: where a saga's state cannot be read, each
        telling would be parked as well, and so on for ever.
        """
        message = delivery.message
        self.settlements.append(
            Settlement(
                message.id, DeliveryState.PARKED, error=error, attempts=attempts, yields=yields
            )
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
            attempts = delivery.attempts + 1
            self.fail(
                delivery,
                error,
                retry,
                attempts=attempts,
                external=external,
                yields=yields,
                least=delay,
            )
            return
        self.leave(delivery, describe(error), delay=delay, yields=yields)
        logger.info("%s: %s gave way and is run again in %.1f s", self.consumer, kind, delay)

    def waits_for_key(self, delivery: Delivery) -> bool:
        """Leave a delivery whose last run needed what another transaction holds; says if it did.

        It is no trouble of the delivery's, and never counted: the other one may take long.
        """
        outcome = self.known.get((delivery.message.id, delivery.attempts))
        if outcome is None or not isinstance(outcome.error, GaveWay):
            return False
        yields, delay = wait_for_key(delivery.yields, random.random())
        self.leave(delivery, describe(outcome.error), delay=delay, yields=yields)
        return True

    def leave(
        self,
        delivery: Delivery,
        error: str,
        *,
        delay: float,
        yields: int = 0,
        alone: bool = False,
    ) -> None:
        """Leave a delivery pending, due again in `delay` seconds, without counting a failure."""
        self.settlements.append(
            Settlement(
                delivery.message.id,
                DeliveryState.PENDING,
                error=error,
                attempts=delivery.attempts,
                delay=delay,
                yields=yields,
                alone=alone,
            )
        )

    def _fail(self, failed: Failed) -> None:
        self.fail(
            failed.delivery,
            failed.error,
            failed.retry,
            attempts=failed.attempts,
            external=failed.external,
            took=failed.took,
        )

    def _close(
        self,
        delivery: Delivery,
        state: DeliveryState = DeliveryState.DONE,
        *,
        error: str | None = None,
        took: float | None = None,
        refuses: bool = False,
    ) -> None:
        message = delivery.message
        self.settlements.append(
            Settlement(message.id, state, error=error, attempts=delivery.attempts, took=took)
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


@dataclass(frozen=True, slots=True)
class Folded:
    """What sagas made of messages that are sent by this transaction."""

    #: Those that were consumed, and how.
    heard: Mapping[UUID, Heard]
    messages: Sequence[Envelope]
    #: `saga_rows.saving` of the sagas.
    sagas: Mapping[str, object]
    #: To be called when all is written; returns further consumers that got something.
    then: Callable[[], set[str]]


class Folder(Protocol):
    """The orchestrator of one saga, as the contexts of its process see it."""

    def fold(self, unit: UnitOfWork, messages: Sequence[Envelope]) -> Folded | None:
        """Consume what this transaction sends to sagas, as far as they can be locked now."""


#: No saga is told at once.
NOBODY: Mapping[str, Folder] = {}


class Ending(Protocol):
    """How a batch of a context's is written: `finish`, or what a database of its own does."""

    def __call__(
        self,
        unit: UnitOfWork,
        inbox: Inbox,
        outbox: Outbox,
        batch: Batch,
        *,
        folders: Mapping[str, Folder] = NOBODY,
    ) -> frozenset[str]:
        """Write it, and return the consumers to ring after the commit."""


def finish(
    unit: UnitOfWork,
    inbox: Inbox,
    outbox: Outbox,
    batch: Batch,
    *,
    sagas: Mapping[str, object] | None = None,
    folders: Mapping[str, Folder] = NOBODY,
) -> frozenset[str]:
    """Write a batch: settle, send, and save sagas, in one statement.

    A saga in `folders` consumes what is sent to it at once: its deliveries are written as done.

    Returns the consumers that got something; their doorbells are to be rung after the commit.
    Raises `IdConflict` where another message has the id of one that is sent.
    """
    batch.judge_failed(unit, inbox)
    if not (batch.settlements or batch.messages):
        return frozenset()
    folded = _fold(unit, batch, folders) if folders else None
    if folded is None:
        messages = outbox.parameters(batch.messages, key_wait=batch.key_wait)
    else:
        messages = outbox.parameters(
            (*batch.messages, *folded.messages), folded.heard, key_wait=batch.key_wait
        )
        batch.messages.extend(folded.messages)
        sagas = folded.sagas
    rows = inbox.finish(unit, batch.settlements, messages, sagas)
    outbox.refuse_others(unit, rows, batch.messages)
    got = woken(rows)
    # Before anything is taken back or undone below the commands that were just sent.
    got |= outbox.settling.count(unit, batch.messages, batch.closed, consumer=batch.consumer)
    if folded is not None:
        got |= folded.then()
    got |= outbox.settling.wake(unit, batch.keys | held_up(rows))
    return frozenset(got)


def _fold(unit: UnitOfWork, batch: Batch, folders: Mapping[str, Folder]) -> Folded | None:
    """Let the saga of which there are messages consume them; those of others go the long way."""
    for name, folder in folders.items():
        sent = [message for message in batch.messages if _is_for(message, name)]
        if sent:
            return folder.fold(unit, sent)
    return None


def _is_for(message: Envelope, consumer: str) -> bool:
    """Whether it goes to the saga of this name: a reply, or an event that its step awaits."""
    if message.recipient is not None or message.saga is None:
        return message.recipient == consumer
    return message.kind in message.awaits and saga_consumer(message.saga) == consumer
