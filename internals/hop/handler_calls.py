"""Handler calls: how a handler is called, and what is recorded of each way in which that ends.

It is the same for a run in the transaction of its batch and for one under a lease.
"""

from collections.abc import Callable
from functools import partial

from internals.handler import Handler, Unreadable
from internals.hop.batch import Batch
from internals.hop.dispatch import leave_unread
from internals.hop.failure_isolation import PROVED_AFTER
from internals.hop.handler_run import Run
from internals.hop.outcome import Failed, Outcome
from internals.hop.time_limits import Watch
from internals.hop.unhandled import Left
from internals.store.delivery import Delivery
from internals.store.outbox import Outbox
from internals.work import Around, Work
from saga.errors import Rejected


class HandlerCalls:
    """The calls of one consumer's handlers.  Safe to share between threads.

    Args:
        outbox: Checks what they send.
        watch: Ends those that take too long.
        around: Entered around each run.
        left: What the consumer leaves to other workers.
    """

    def __init__(self, outbox: Outbox, watch: Watch, around: Around, left: Left) -> None:
        self.watch = watch
        self.left = left
        self._outbox = outbox
        self._around = around

    def call(self, handler: Handler, work: Work, run: Run, prove: Callable[[], None]) -> None:
        """Call a handler; raises what it raises, and what is wrong with what it sends.

        Args:
            handler: The handler.
            work: What it is given.
            run: The run, for the thread that watches it.
            prove: Raises if its connection is lost; called where that may be.
        """
        with self._around(work):
            self.watch.over(run, partial(handler.handle, work))
        if run.took > PROVED_AFTER:
            prove()
        self._outbox.admit(work.sent)

    def record(self, batch: Batch, delivery: Delivery, handler: Handler, outcome: Outcome) -> None:
        """Note in a batch what becomes of a delivery by how the run of its handler ended."""
        error, took = outcome.error, outcome.took
        if error is None:
            batch.succeed(delivery, outcome.sent, took=took, overran=outcome.overran)
        elif isinstance(error, Rejected):
            batch.reject(delivery, error, took=took)
        elif isinstance(error, Unreadable):
            leave_unread(delivery, error, batch, self.left)
        elif outcome.gives_way:
            batch.give_way(delivery, error, handler.retry, external=handler.external)
        else:
            attempts = delivery.attempts + 1
            failed = Failed(delivery, error, handler.retry, attempts, handler.external, took)
            if outcome.ended:
                batch.fail(failed, alone=True)
            else:
                batch.note_failed(failed)
