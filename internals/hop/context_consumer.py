"""The consumer of a context: runs its handlers over a claimed batch."""

import logging
import time
from collections.abc import Mapping
from functools import partial

from internals.context import Context
from internals.database.connections import Database
from internals.database.errors import is_server_trouble
from internals.database.lock_waits import Crowd, GaveWay
from internals.database.unit_of_work import UnitOfWork
from internals.handler import Handler, Unreadable
from internals.hop.batch import Batch
from internals.hop.batched_run import BatchedRunner
from internals.hop.colocation import NOBODY, Folder
from internals.hop.consumer import Handled, Unprotected
from internals.hop.dispatch import leave_unread, to_run
from internals.hop.failure_isolation import (
    Attempt,
    Blame,
    is_too_slow,
    own,
)
from internals.hop.finish import Ending, finish
from internals.hop.handler_run import seconds_of
from internals.hop.lease import Leased, LeasedRunner
from internals.hop.lease_heartbeat import Heartbeat, Held
from internals.hop.outcome import Failed, Outcome
from internals.hop.pace import FIRST_BATCH, Pace
from internals.hop.time_limits import Watch
from internals.hop.uncounted_retries import YIELDS
from internals.hop.undone_runs import UndoneRuns
from internals.hop.unhandled import Left
from internals.store.delivery import SUSPECT_RINGS, Delivery, DeliveryOutcome
from internals.store.inbox import Inbox
from internals.store.outbox import Outbox
from internals.work import Around, nothing_around
from saga.errors import Rejected

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
        inbox: Its deliveries.
        outbox: Where what they send is written.
        watch: Ends handlers that take too long; the runtime has one for all of its consumers.
        budget: Seconds after which a batch takes no further delivery, so that slow handlers
            make small batches.
        first: Deliveries of the first batch; it doubles as long as handlers are quick.
        suspect_starts: Starts of a delivery that seems to kill its workers, before it is parked.
        suspect_lease: Seconds for which such a delivery is kept from other workers.
        yields: Runs of a delivery in a row that may give way to the database before they count.
        around: Entered around each run of a handler, within its transaction: what a host
            framework sets up for its own code, such as an application context.
        ending: How batches are written.
        heartbeat: Renews the leases of this process; one of its own if not given.
    """

    def __init__(
        self,
        context: Context,
        database: Database,
        inbox: Inbox,
        outbox: Outbox,
        watch: Watch,
        *,
        budget: float,
        first: int = FIRST_BATCH,
        suspect_starts: int = SUSPECT_STARTS,
        suspect_lease: float = SUSPECT_LEASE,
        yields: int = YIELDS,
        around: Around = nothing_around,
        ending: Ending = finish,
        heartbeat: Heartbeat | None = None,
    ) -> None:
        self.name = context.name
        self._context = context
        self._database = database
        self._watch = watch
        self._inbox = inbox
        self._outbox = outbox
        self._budget = budget
        self._suspect_starts = suspect_starts
        self._suspect_lease = suspect_lease
        self._yields = yields
        self._around = around
        self._ending = ending
        self._pace = Pace(first)
        self._undone = UndoneRuns()
        self._runner = BatchedRunner(
            database,
            inbox,
            outbox,
            watch,
            around=around,
            ending=ending,
            yields=yields,
            alone=context.alone,
            undone=self._undone,
            pace=self._pace,
        )
        self._blame = Blame()
        self._crowd = Crowd()
        self._left = Left(self.name)
        self._heartbeat = heartbeat or Heartbeat(inbox.statements)

    def handle(
        self, unit: UnitOfWork, limit: int, folders: Mapping[str, Folder] = NOBODY
    ) -> Handled:
        limit = self._blame.begin(1 if self._context.alone else limit)
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
        undone = self._outbox.settling.undone(unit, (d.message for d in deliveries))
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
        self._blame.finishing(returned, settled, altered=unit.altered)
        woken = self._write(unit, batch, folders)
        self._blame.committing()
        return Handled(
            len(deliveries),
            len(deliveries) - left,
            full or left > 0,
            woken,
            after_commit=None if leased is None else partial(self._run_leased, leased),
            refused=self._refused,
        )

    def _write(
        self, unit: UnitOfWork, batch: Batch, folders: Mapping[str, Folder]
    ) -> frozenset[str]:
        """Write a batch; raises `Unprotected` if it is refused for one delivery, or to find which."""
        self._undone.known = batch.known
        try:
            return self._ending(unit, self._inbox, self._outbox, batch, folders=folders)
        except Exception as error:
            # With sagas in it the error may be theirs: it is run without them first.
            if (isinstance(error, GaveWay) or not folders) and self._refused(error):
                raise Unprotected from error
            raise

    def _run_leased(self, leased: Leased, database: Database) -> frozenset[str]:
        """Run what this hop leased, after its commit."""
        # Of a run that hangs beyond its limit the lease ends, whatever else fails.
        limit = seconds_of(leased.handler, self._watch.limit) + _SETTLED_WITHIN
        held = Held(
            self.name, (leased.delivery.message.id,), leased.lease, leased.seconds, limit=limit
        )
        runner = LeasedRunner(
            database,
            self._inbox,
            self._outbox,
            self._watch,
            around=self._around,
            ending=self._ending,
            yields=self._yields,
        )
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
        error, took = outcome.error, outcome.took
        if error is None:
            batch.succeed(delivery, outcome.sent, took=took)
        elif isinstance(error, Rejected):
            batch.reject(delivery, error, took=took)
        elif isinstance(error, Unreadable):
            leave_unread(delivery, error, batch, self._left)
        elif is_server_trouble(error) and not is_too_slow(error):
            batch.give_way(delivery, error, handler.retry)
        else:
            attempts = delivery.attempts + 1
            batch.note_failed(Failed(delivery, error, handler.retry, attempts, took=took))
        return error is None

    def _refused(self, error: Exception) -> bool:
        """The database refused the hop.  Remember whose fault it was, or find out by another run.

        Says whether the hop is to be run again at once.
        """
        if isinstance(error, GaveWay):
            self._crowd.gave_way()
        again, attempt = self._blame.find(error)
        if attempt is not None:
            # Beside what is known by now: of two that are found in turn neither would ever end.
            # A refusal for being read-only blames only one that has set something.
            found = Outcome(0.0, error=own(error, altered=True))
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
