"""The consumer of a context: runs its handlers over a claimed batch."""

import logging
import threading
import time
from collections.abc import Container, Mapping, Sequence
from functools import partial
from uuid import UUID

import psycopg

from internals.context import Context, Handler, Unreadable
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import is_passing, is_server_trouble
from internals.database.lock_waits import Crowd, GaveWay
from internals.database.unit_of_work import UnitOfWork
from internals.hop.batch import Batch
from internals.hop.colocation import NOBODY, Folder
from internals.hop.consumer import Handled, Overran, Unprotected
from internals.hop.failure_isolation import (
    PROVED_AFTER,
    Attempt,
    Blame,
    is_interrupt,
    is_too_slow,
    own,
)
from internals.hop.finish import Ending, finish
from internals.hop.handler_run import Run
from internals.hop.lease import Leased, LeasedRunner, seconds_of
from internals.hop.lease_heartbeat import Heartbeat, Held
from internals.hop.outcome import Failed, Outcome
from internals.hop.time_limits import Watch
from internals.hop.uncounted_retries import YIELDS
from internals.hop.unhandled import UNHANDLED, UNREADABLE, Left
from internals.store.delivery import SUSPECT_RINGS, Delivery
from internals.store.inbox import UNSETTLED, Inbox
from internals.store.outbox import Outbox
from internals.undo import NoUndo
from internals.work import Around, Work, nothing_around
from saga.errors import Rejected

logger = logging.getLogger(__name__)

#: Deliveries that a batch may have however fast the handlers are.
_FASTEST = 1024
#: Deliveries of the first batch of a process, which does not know yet how fast they are.
FIRST_BATCH = 4

#: So often at least a suspect is started before it is parked: where workers are killed all the
#: time, dying with one's worker a few times is no proof.
SUSPECT_STARTS = 10

#: For so many deliveries each handler has a savepoint, once one has raised that had written.
_CAREFUL = 512

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
        self._pace = first
        #: For so many deliveries more each handler has a savepoint.
        self._careful = 0
        self._undone = threading.local()
        self._blame = Blame()
        self._crowd = Crowd()
        self._left = Left(self.name)
        self._heartbeat = heartbeat or Heartbeat(inbox.statements)

    def handle(
        self, unit: UnitOfWork, limit: int, folders: Mapping[str, Folder] = NOBODY
    ) -> Handled:
        limit = self._blame.begin(1 if self._context.alone else limit)
        beside = 0 if self._pace >= limit else 1
        deliveries, size = self._inbox.claim(unit, min(limit, self._pace), beside=beside)
        if not size:
            return Handled(more=True, missed=True)
        full = len(deliveries) >= size
        batch = Batch(
            self.name,
            self._yields,
            known=self._undone_outcomes(deliveries),
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
                # What a slow batch leaves was locked for nothing: take no more than fits.
                self._pace = position
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
                    self._pace = position + 1
                    left += len(deliveries) - self._pace
                    break
            elif leased is None:
                leased = self._lease(unit, delivery, handler, batch)
            else:
                left += 1
        if full and not left and time.monotonic() < until:
            self._pace = min(2 * self._pace, _FASTEST)
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
            outcome = self._call(unit, delivery, handler, batch, alone=alone)
        error, took = outcome.error, outcome.took
        if error is None:
            batch.succeed(delivery, outcome.sent, took=took)
            self._careful -= self._careful > 0
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

    def _call(
        self, unit: UnitOfWork, delivery: Delivery, handler: Handler, batch: Batch, *, alone: bool
    ) -> Outcome:
        """Call a handler; what it wrote stays only if it returned.

        In a batch a savepoint for each would cost as much as many a handler, and most return.  So
        there is none, as long as none that has touched the database raises; then `Unprotected` is
        raised, and the batch is run again with savepoints.  A delivery alone has one: what a handler
        has refused no other worker may take meanwhile, and ask again.
        """
        work = Work(delivery.message, consumer=self.name, emits=handler.emits, unit=unit)
        limit, patience = self._limits(handler, alone=alone)
        give_up = partial(self._give_up, delivery, handler, held_up=limit < patience)
        run = Run(
            self.name, delivery.message, limit, unit.driver, give_up, locked=True, patience=patience
        )
        protected, careful = True, alone or self._careful > 0
        if self._context.alone:
            unit.expect_settings()
        try:
            with unit.handling(careful=careful) as protected, work:
                with self._around(work):
                    self._watch.over(run, partial(handler.handle, work))
                if run.took > PROVED_AFTER:
                    unit.prove()
                self._outbox.admit(work.sent)
        except BaseException as error:
            if run.late:
                self._pace = 1
                raise Overran(run.outcome) from error
            if is_interrupt(error):
                raise
            failure = own(error, altered=unit.altered)
            outcome = Outcome(run.took, error=failure)
            if unit.lost and is_too_slow(error) and not self._watch.stood_still(run):
                batch.known[delivery.message.id, delivery.attempts] = outcome
                self._remember(batch.known)
                raise Unprotected from error
            if unit.lost and not isinstance(error, Exception):
                raise psycopg.OperationalError("the connection is lost") from error
            if unit.lost or (is_passing(failure) and not alone):
                raise  # the batch is run again, one by one
            if not protected:
                batch.known[delivery.message.id, delivery.attempts] = outcome
                if work.touched:
                    self._careful = _CAREFUL
                    self._remember(batch.known)
                    raise Unprotected from error
            return outcome
        return Outcome(run.took, work.sent)

    def _limits(self, handler: Handler, *, alone: bool) -> tuple[float, float]:
        """Return the seconds that a run may take here, and those that it may take alone."""
        limit = seconds_of(handler, self._watch.limit)
        return limit if alone else min(limit, self._watch.batch_limit), limit

    def _give_up(
        self, delivery: Delivery, handler: Handler, run: Run, *, held_up: bool
    ) -> frozenset[str]:
        """Settle a delivery whose handler is ended, in another thread: it is run again alone.

        One that only held up its batch has done nothing wrong.
        """
        with transaction(self._database, Boundary.HOP) as unit:
            # Waits until the handler's session is over.
            if not self._inbox.hold_claimed(unit, delivery):
                return frozenset()
            batch = self._given_up(delivery, handler, run, held_up=held_up)
            return self._ending(unit, self._inbox, self._outbox, batch)

    def _given_up(self, delivery: Delivery, handler: Handler, run: Run, *, held_up: bool) -> Batch:
        batch = Batch(self.name, self._yields)
        if held_up:
            why = f"it held up its batch for {run.limit:g} s, and is run again alone"
            batch.leave(delivery, why, delay=0.0, alone=True)
            logger.info("%s: %s: %s", self.name, delivery.message.kind, why)
        elif run.blocked:
            batch.give_way(delivery, run.error, handler.retry)
        else:
            attempts = delivery.attempts + 1
            failed = Failed(delivery, run.error, handler.retry, attempts, took=run.took)
            batch.fail(failed, alone=True)
        return batch

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
            self._remember({**self._undone.known, attempt: found})
        return again

    def _remember(self, outcomes: Mapping[tuple[UUID, int], Outcome]) -> None:
        """Keep what raised in a run that is undone for the next run of this thread."""
        self._undone.outcomes = {**self._undone.__dict__.get("outcomes", {}), **outcomes}

    def _undone_outcomes(self, claimed: Sequence[Delivery]) -> dict[tuple[UUID, int], Outcome]:
        """Return what raised in this thread's last run, if that was undone.

        What was not claimed this time is remembered for the next.
        """
        outcomes: dict[tuple[UUID, int], Outcome] = self._undone.__dict__.pop("outcomes", {})
        if outcomes:
            here = {(delivery.message.id, delivery.attempts) for delivery in claimed}
            left = {run: outcome for run, outcome in outcomes.items() if run not in here}
            if left:
                self._undone.outcomes = left
        return outcomes

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
            if known is not None and known != UNSETTLED:
                error = f"its worker died, or its lease ended, in the last of {limit} attempts; "
                error += f"before that: {known}"
            batch.park(delivery, error, attempts=delivery.attempts, external=handler.external)
            logger.error("%s: %s %s: %s", self.name, delivery.message.kind, limit, error)
            return None
        seconds = handler.lease.total_seconds() if handler.external else self._suspect_lease
        leased = Leased(delivery, handler, seconds, self._context.alone)
        self._inbox.lease(
            unit, delivery.message.id, leased.lease, seconds, external=handler.external
        )
        return leased


def to_run(
    context: Context,
    delivery: Delivery,
    undone: Container[UUID | None],
    batch: Batch,
    left: Left,
) -> Handler | None:
    """Return the handler to run; None where there is none to run, which is noted in the batch.

    Args:
        context: Whose delivery it is.
        delivery: One that was claimed.
        undone: Roots of what is being undone.
        batch: Its batch.
        left: What the consumer leaves to other workers.
    """
    if batch.known and batch.waits_for_key(delivery):
        return None
    handler = context.handler_of(delivery.message)
    if delivery.message.root_id in undone:
        batch.take_back(delivery)
    elif delivery.given_up:
        batch.give_up(delivery)
    elif isinstance(handler, NoUndo):
        batch.stand(delivery, handler.reason)
    elif handler is None:
        # Another worker, of a newer or an older release, may know it: never discard.
        kind = delivery.message.kind
        reason = f"{UNHANDLED}{kind} in this worker"
        batch.leave(delivery, reason, delay=left.delay(kind, reason))
    else:
        return handler
    return None


def leave_unread(delivery: Delivery, error: Exception, batch: Batch, left: Left) -> None:
    """Leave what cannot be read to a worker of another release."""
    reason = f"{UNREADABLE}{error}"
    batch.leave(delivery, reason, delay=left.delay(delivery.message.kind, reason))
