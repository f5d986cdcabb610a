"""Batched runs: those of handlers within the transaction that claimed their deliveries."""

import logging
from functools import partial

import psycopg

from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import is_passing
from internals.database.unit_of_work import UnitOfWork
from internals.handler import Handler
from internals.hop.batch import Batch
from internals.hop.batch_writer import BatchWriter
from internals.hop.colocation import HopTransaction
from internals.hop.consumer import Overran, Unprotected
from internals.hop.failure_isolation import is_interrupt, is_too_slow, own
from internals.hop.handler_calls import HandlerCalls
from internals.hop.handler_run import Run, seconds_of
from internals.hop.outcome import Outcome
from internals.hop.pace import Pace
from internals.hop.undone_runs import UndoneRuns
from internals.store.delivery import Delivery
from internals.work import Work

logger = logging.getLogger(__name__)

#: For so many deliveries each handler has a savepoint, once one has raised that had written.
_CAREFUL = 512


class BatchedRunner:
    """Runs the handlers of one consumer's batches.

    Args:
        database: Where what becomes of a handler that hangs is written.
        writer: Writes what becomes of the deliveries.
        calls: Calls the handlers, and records how that ends.
        yields: Runs of a delivery in a row that may give way to the database before they count.
        alone: Whether each delivery has a transaction of its own, as the context says.
        undone: What raised in runs that are undone.
        pace: How many deliveries a batch has.
    """

    def __init__(
        self,
        database: Database,
        writer: BatchWriter,
        calls: HandlerCalls,
        *,
        yields: int,
        alone: bool,
        undone: UndoneRuns,
        pace: Pace,
    ) -> None:
        self._name = writer.inbox.consumer
        self._database = database
        self._writer = writer
        self._inbox = writer.inbox
        self._calls = calls
        self._watch = calls.watch
        self._yields = yields
        self._alone = alone
        self._undone = undone
        self._pace = pace
        #: For so many deliveries more each handler has a savepoint.
        self._careful = 0

    def run(
        self, unit: UnitOfWork, delivery: Delivery, handler: Handler, batch: Batch, *, alone: bool
    ) -> Outcome:
        """Call a handler; what it wrote stays only if it returned.

        In a batch a savepoint for each would cost as much as many a handler, and most return.  So
        there is none, as long as none that has touched the database raises; then `Unprotected` is
        raised, and the batch is run again with savepoints.  A delivery alone has one: what a handler
        has refused no other worker may take meanwhile, and ask again.
        """
        work = Work(delivery.message, consumer=self._name, emits=handler.emits, unit=unit)
        limit, patience = self._limits(handler, alone=alone)
        give_up = partial(self._give_up, delivery, handler, held_up=limit < patience)
        run = Run(
            self._name,
            delivery.message,
            limit,
            unit.driver,
            give_up,
            locked=True,
            patience=patience,
        )
        protected, careful = True, alone or self._careful > 0
        if self._alone:
            unit.expect_settings()
        try:
            with unit.handling(careful=careful) as protected, work:
                self._calls.call(handler, work, run, unit.prove)
        except BaseException as error:
            if run.late:
                self._pace.one_by_one()
                raise Overran(run.outcome) from error
            if is_interrupt(error):
                raise
            failure = own(error, altered=unit.altered)
            outcome = Outcome.raised(run.took, failure)
            if unit.lost and is_too_slow(error) and not self._watch.stood_still(run):
                batch.known[delivery.message.id, delivery.attempts] = outcome
                self._undone.remember(batch.known)
                raise Unprotected from error
            if unit.lost and not isinstance(error, Exception):
                raise psycopg.OperationalError("the connection is lost") from error
            if unit.lost or (is_passing(failure) and not alone):
                raise  # the batch is run again, one by one
            if not protected:
                batch.known[delivery.message.id, delivery.attempts] = outcome
                if work.touched:
                    self._careful = _CAREFUL
                    self._undone.remember(batch.known)
                    raise Unprotected from error
            return outcome
        self._careful -= self._careful > 0
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
            return self._writer.write(HopTransaction(unit), batch)

    def _given_up(self, delivery: Delivery, handler: Handler, run: Run, *, held_up: bool) -> Batch:
        batch = Batch(self._name, self._yields)
        if held_up:
            why = f"it held up its batch for {run.limit:g} s, and is run again alone"
            batch.leave(delivery, why, delay=0.0, alone=True)
            logger.info("%s: %s: %s", self._name, delivery.message.kind, why)
        else:
            self._calls.record(batch, delivery, handler, run.at_limit)
        return batch
