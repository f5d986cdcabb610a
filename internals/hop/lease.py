"""Leased deliveries: those that are not handled in the transaction that claimed them.

A handler that acts outside the database must not hold a transaction open over its call, and one
that has killed its worker must be counted before it is run once more.  For both:

1. The claim commits a lease: a random id, and the time until which nobody else takes the delivery.
   While the handler runs the lease is renewed (`internals.hop.lease_heartbeat`).
2. The handler runs.
3. One transaction: effects, sends and settlement.

Cut anywhere, the delivery is due again when the lease ends; the handler is then given the same
idempotency key.  A process that was frozen meanwhile comes too late to renew it: then whoever has a
result first settles it, though its lease may have ended.
"""

import logging
import random
import time
from dataclasses import dataclass, field
from uuid import UUID, uuid4

from internals.database.commit_points import Boundary, OpenTransaction
from internals.database.connections import Database
from internals.database.errors import is_transient
from internals.database.lock_waits import KEY_WAIT
from internals.handler import Handler
from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.colocation import HopTransaction
from internals.hop.failure_isolation import is_interrupt, is_refusal, is_too_slow
from internals.hop.handler_calls import HandlerCalls
from internals.hop.handler_run import Run, seconds_of
from internals.hop.leased_transaction import LeasedTransaction
from internals.hop.outcome import Outcome
from internals.store.delivery import Delivery
from internals.store.inbox import OVERRAN
from internals.work import Work
from saga.backoff import Backoff

logger = logging.getLogger(__name__)

#: Between two tries to settle what could not be done.
_BACKOFF = Backoff(0.05, cap=2.0, jitter=1.0)


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


class LeasedRunner:
    """Runs the handlers of one consumer's leased deliveries.

    Args:
        database: Where they write.
        writer: Writes what becomes of the deliveries.
        calls: Calls the handlers, and records how that ends.
        yields: Runs of a delivery in a row that may give way to the database before they count.
    """

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        calls: HandlerCalls,
        *,
        yields: int,
    ) -> None:
        self._database = database
        self._writer = writer
        self._inbox = writer.inbox
        self._calls = calls
        self._yields = yields

    def run(self, leased: Leased) -> frozenset[str]:
        """Run the handler and settle the delivery; returns the consumers to ring.

        If the lease has gone to another, a failure is nothing: its holder does the work.  A
        result counts all the same, unless there is one by now.
        """
        opened = OpenTransaction(self._database, Boundary.LEASED)
        work_of = LeasedTransaction(
            opened, self._database, external=leased.handler.external, alone=leased.alone
        )
        work = Work(
            leased.delivery.message,
            consumer=self._inbox.consumer,
            emits=leased.handler.emits,
            begin=work_of.begin,
        )
        run = Run(
            self._inbox.consumer,
            leased.delivery.message,
            seconds_of(leased.handler, self._calls.watch.limit),
            opened.driver,
            lambda run: self._give_up(leased, run),
            locked=False,
        )
        try:
            with work_of, work:
                if not leased.handler.external:
                    work.begin()
                self._calls.call(leased.handler, work, run, opened.prove)
        except BaseException as error:
            lost = opened.lost
            opened.roll_back()
            if is_interrupt(error):
                raise  # the worker is to stop: the lease runs out
            no_database = lost or work_of.no_connection(error) or work_of.passes(error)
            outcome = self._raised(run, error, no_database=no_database)
            return self._settle_failed(opened, leased, self._recorded(leased, outcome))
        outcome = Outcome(run.took, work.sent, overran=_overran(leased, run.took))
        return self._settle_returned(opened, leased, outcome)

    def _recorded(self, leased: Leased, outcome: Outcome) -> Batch:
        """Return a batch with what becomes of the delivery."""
        # A call that was made is not to be made again for a lock that is held a little longer.
        key_wait = None if leased.handler.external else KEY_WAIT
        batch = Batch(self._inbox.consumer, self._yields, key_wait=key_wait)
        self._calls.record(batch, leased.delivery, leased.handler, outcome)
        return batch

    def _raised(self, run: Run, error: BaseException, *, no_database: bool) -> Outcome:
        """Return how a run ended that raised."""
        if run.late:
            return run.at_limit
        slow = is_too_slow(error) and not self._calls.watch.stood_still(run)
        return Outcome(run.took, error=error, gives_way=no_database and not slow)

    def _give_up(self, leased: Leased, run: Run) -> frozenset[str]:
        """Settle a delivery whose handler is ended, in another thread."""
        batch = self._recorded(leased, run.at_limit)
        return self._settle(OpenTransaction(self._database, Boundary.LEASED), leased, batch)

    def _settle_returned(
        self, opened: OpenTransaction, leased: Leased, outcome: Outcome
    ) -> frozenset[str]:
        """Settle what the handler returned from; if that is refused, as failed or given way."""
        batch = self._recorded(leased, outcome)
        try:
            return self._settle(opened, leased, batch)
        except Exception as error:
            # A refusal is the handler's fault, since there is nothing else in the transaction.
            refused = is_refusal(error)
            if not (refused or is_transient(error)):
                raise
            # Otherwise whether it was committed is found out by reading; if not, it is run again.
            again = Outcome(outcome.took, error=error, gives_way=not refused)
        return self._settle_anyhow(leased, self._recorded(leased, again))

    def _settle_failed(
        self, opened: OpenTransaction, leased: Leased, batch: Batch
    ) -> frozenset[str]:
        try:
            return self._settle(opened, leased, batch)
        except Exception as error:
            if not is_transient(error):
                raise
        # What it failed with is known, and nothing of it was written.
        return self._settle_anyhow(leased, batch)

    def _settle_anyhow(self, leased: Leased, batch: Batch) -> frozenset[str]:
        """Settle what is not done, for as long as the lease may be ours.

        The start is counted by now, and would look like a death if this were lost in a conflict.
        """
        until, failures = time.monotonic() + leased.seconds, 0
        while True:
            opened = OpenTransaction(self._database, Boundary.LEASED)
            try:
                return self._settle(opened, leased, batch)
            except Exception as error:
                if not is_transient(error) or time.monotonic() > until:
                    raise
            failures += 1
            time.sleep(_BACKOFF.wait(failures, random.random()))

    def _settle(self, opened: OpenTransaction, leased: Leased, batch: Batch) -> frozenset[str]:
        unit = opened.begin()
        try:
            message = leased.delivery.message
            ours = self._inbox.hold(unit, message.id, leased.lease)
            if ours is None and leased.handler.external and self._inbox.reopen(unit, message):
                ours = True
            if ours is None or not (ours or batch.has_result):
                opened.roll_back()
                why = "has a result by now" if ours is None else "is run elsewhere by now"
                logger.warning(
                    "%s: %s %s %s, and %s", batch.consumer, message.kind, message.id, OVERRAN, why
                )
                return frozenset()
            woken = self._writer.write(HopTransaction(unit), batch)
        except BaseException:
            opened.roll_back()
            raise
        opened.commit()
        return woken


def _overran(leased: Leased, took: float) -> str | None:
    """Return the words for a run that took longer than its lease; None for one that did not."""
    if took <= leased.seconds:
        return None
    note = f"{OVERRAN}: {took:.1f} s, and the lease is of {leased.seconds:g} s"
    message = leased.delivery.message
    logger.warning("the handler of %s %s %s", message.kind, message.id, note)
    return note
