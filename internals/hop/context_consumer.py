"""The consumer of a context: runs its handlers over a claimed batch."""

import logging
import time
from functools import partial

from internals.context import Context
from internals.database.connections import Database
from internals.database.lock_waits import Crowd, GaveWay
from internals.database.unit_of_work import UnitOfWork
from internals.handler import Handler, Unreadable
from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.batched_run import BatchedRunner
from internals.hop.colocation import HopTransaction
from internals.hop.consumer import Handled, Unprotected
from internals.hop.dispatch import leave_unread, to_run
from internals.hop.failure_isolation import (
    Attempt,
    FailureIsolation,
    own,
)
from internals.hop.handler_calls import HandlerCalls
from internals.hop.handler_run import seconds_of
from internals.hop.lease import Leased, LeasedRunner
from internals.hop.lease_heartbeat import Heartbeat, Held
from internals.hop.outcome import Outcome
from internals.hop.pace import FIRST_BATCH, Pace
from internals.hop.time_limits import Watch
from internals.hop.uncounted_retries import YIELDS
from internals.hop.undone_runs import UndoneRuns
from internals.hop.unhandled import Left
from internals.store.delivery import SUSPECT_RINGS, Delivery, DeliveryOutcome
from internals.work import Around, nothing_around

logger = logging.getLogger(__name__)

#: So often at least a suspect is started before it is parked: where workers are killed all the
#: time, dying with one's worker a few times is no proof.
SUSPECT_STARTS = 10

#: Seconds from a run's limit in which what becomes of it is written.
_SETTLED_WITHIN = 10.0

#: Seconds for which a suspect is kept from other workers while it runs, at most: the lease is
#: renewed, so this is how long they wait where its worker is frozen.
SUSPECT_LEASE = 30.0
#: And at least, so that a busy process renews it in time.
_SHORTEST_LEASE = 5.0


def suspect_lease(frozen_after: float) -> float:
    """Return the seconds of a suspect's lease where others are to go on after so many."""
    return min(SUSPECT_LEASE, max(frozen_after, _SHORTEST_LEASE))


class ContextConsumer:
    """Handles the deliveries of one context.

    Args:
        context: Its handlers.
        database: Where the inbox is: what becomes of a handler that hangs is written there.
        writer: Writes what becomes of its deliveries.
        watch: Ends handlers that take too long; the runtime has one for all of its consumers.
        budget: Seconds after which a batch takes no further delivery, so that slow handlers
            make small batches.
        first: Deliveries of the first batch; it doubles as long as handlers are quick.
        suspect_starts: Starts of a delivery that seems to kill its workers, before it is parked.
        suspect_lease: Seconds for which such a delivery is kept from other workers.
        yields: Runs of a delivery in a row that may give way to the database before they count.
        around: Entered around each run of a handler, within its transaction: what a host
            framework sets up for its own code, such as an application context.
        heartbeat: Renews the leases of this process; one of its own if not given.
    """

    def __init__(
        self,
        context: Context,
        database: Database,
        writer: BatchWriter,
        watch: Watch,
        *,
        budget: float,
        first: int = FIRST_BATCH,
        suspect_starts: int = SUSPECT_STARTS,
        suspect_lease: float = SUSPECT_LEASE,
        yields: int = YIELDS,
        around: Around = nothing_around,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self.name = context.name
        self._context = context
        self._database = database
        self._watch = watch
        self._writer = writer
        self._inbox = writer.inbox
        self._outbox = writer.outbox
        self._budget = budget
        self._suspect_starts = suspect_starts
        self._suspect_lease = suspect_lease
        self._yields = yields
        self._pace = Pace(first)
        self._undone = UndoneRuns()
        self._left = Left(self.name)
        self._calls = HandlerCalls(self._outbox, watch, around, self._left)
        self._runner = BatchedRunner(
            database,
            writer,
            self._calls,
            yields=yields,
            alone=context.alone,
            undone=self._undone,
            pace=self._pace,
        )
        self._isolation = FailureIsolation()
        self._crowd = Crowd()
        self._heartbeat = heartbeat or Heartbeat(self._inbox.statements)

    def handle(self, hop: HopTransaction, limit: int) -> Handled:
        unit = hop.unit
        limit = self._isolation.begin(1 if self._context.alone else limit)
        beside = 0 if self._pace.size >= limit else 1
        deliveries, size = self._inbox.claim(unit, min(limit, self._pace.size), beside=beside)
        if not size:
            return Handled(more=True, missed=True)
        full = len(deliveries) >= size
        batch = Batch(
            self.name,
            self._yields,
            known=self._undone.take(deliveries),
            key_wait=self._crowd.key_wait,
        )
        leased: Leased | None = None
        returned: list[Attempt] = []
        settled: list[Attempt] = []
        left = 0
        alone = len(deliveries) == 1
        until = time.monotonic() + self._budget
        undone = self._outbox.open_deliveries.undone(unit, (d.message for d in deliveries))
        for position, delivery in enumerate(deliveries):
            if position and time.monotonic() > until:
                self._pace.slow_down(position)
                left += len(deliveries) - position
                break
            if self._watch.is_unwritten(self.name, delivery.message.id):
                left += 1
                continue
            attempt = delivery.message.id, delivery.attempts
            settled.append(attempt)
            handler = to_run(self._context, delivery, undone, batch, self._left)
            if handler is None:
                continue
            if not handler.external and delivery.rings < SUSPECT_RINGS:
                if self._run(unit, delivery, handler, batch, alone=alone):
                    returned.append(attempt)
                if unit.altered:
                    # What holds for this transaction only is not for the next delivery.
                    self._pace.slow_down(position + 1)
                    left += len(deliveries) - position - 1
                    break
            elif leased is None:
                leased = self._lease(unit, delivery, handler, batch)
            else:
                left += 1
        if full and not left and time.monotonic() < until:
            self._pace.speed_up()
        self._isolation.finishing(returned, settled, altered=unit.altered)
        woken = self._write(hop, batch)
        self._isolation.committing()
        return Handled(
            len(deliveries),
            len(deliveries) - left,
            full or left > 0,
            woken,
            after_commit=None if leased is None else partial(self._run_leased, leased),
            refused=self._refused,
        )

    def _write(self, hop: HopTransaction, batch: Batch) -> frozenset[str]:
        """Write a batch; raises `Unprotected` if it is refused for one delivery, or to find which."""
        self._undone.known = batch.known
        try:
            return self._writer.write(hop, batch)
        except Exception as error:
            # With sagas in it the error may be theirs: it is run without them first.
            if (isinstance(error, GaveWay) or not hop.colocated) and self._refused(error):
                raise Unprotected from error
            raise

    def _run_leased(self, leased: Leased, database: Database) -> frozenset[str]:
        """Run what this hop leased, after its commit."""
        # Of a run that hangs beyond its limit the lease ends, whatever else fails.
        limit = seconds_of(leased.handler, self._watch.limit) + _SETTLED_WITHIN
        held = Held(
            self.name, (leased.delivery.message.id,), leased.lease, leased.seconds, limit=limit
        )
        runner = LeasedRunner(database, self._writer, self._calls, yields=self._yields)
        with self._heartbeat.keep(database, held):
            return runner.run(leased)

    def _run(
        self, unit: UnitOfWork, delivery: Delivery, handler: Handler, batch: Batch, *, alone: bool
    ) -> bool:
        """Run one delivery, unless it raised in a run that was undone for that; note its outcome.

        Returns whether the handler returned.
        """
        outcome = batch.known.get((delivery.message.id, delivery.attempts))
        if outcome is None:
            outcome = self._runner.run(unit, delivery, handler, batch, alone=alone)
        self._calls.record(batch, delivery, handler, outcome)
        return outcome.error is None

    def _refused(self, error: Exception) -> bool:
        """The database refused the hop.  Remember whose fault it was, or find out by another run.

        Says whether the hop is to be run again at once.
        """
        if isinstance(error, GaveWay):
            self._crowd.gave_way()
        again, attempt = self._isolation.find(error)
        if attempt is not None:
            # Beside what is known by now: of two that are found in turn neither would ever end.
            # A refusal for being read-only blames only one that has set something.
            found = Outcome.raised(0.0, own(error, altered=True))
            self._undone.remember({**self._undone.known, attempt: found})
        return again

    def _lease(
        self, unit: UnitOfWork, delivery: Delivery, handler: Handler, batch: Batch
    ) -> Leased | None:
        """Take a delivery out of the batch, to be run alone once the start of it is committed."""
        try:
            handler.read(delivery.message)
        except Unreadable as unread:  # before a start of it is counted
            leave_unread(delivery, unread, batch, self._left)
            return None
        limit = handler.retry.overridden_by(delivery.message.retry).attempts
        if not handler.external:
            limit = max(limit, self._suspect_starts)
        if delivery.attempts >= limit:
            error = f"its worker died, or its lease ended, in each of {limit} attempts"
            known = self._inbox.last_error(unit, delivery.message.id)
            if known is not None:
                error = f"its worker died, or its lease ended, in the last of {limit} attempts; "
                error += f"before that: {known}"
            batch.park(
                delivery,
                error,
                outcome=DeliveryOutcome.UNSETTLED,
                attempts=delivery.attempts,
                external=handler.external,
            )
            logger.error("%s: %s %s: %s", self.name, delivery.message.kind, limit, error)
            return None
        seconds = handler.lease.total_seconds() if handler.external else self._suspect_lease
        leased = Leased(delivery, handler, seconds, self._context.alone)
        self._inbox.lease(
            unit, delivery.message.id, leased.lease, seconds, external=handler.external
        )
        return leased
