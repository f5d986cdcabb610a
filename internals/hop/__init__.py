"""The hop: one transaction in which a consumer handles up to N deliveries.

1. A doorbell says that the consumer may have deliveries; a unit of work is opened (`drain`, `hop`).
2. Claim: one statement locks due deliveries and returns their messages (`context_consumer`).
3. Each is handled, within a time budget (`dispatch`, `batched_run`); if one of a batch raises that
   has written, all of it once more, within savepoints.  `handler_calls` records how each ended in
   the `batch`.
4. Finish: set-based statements write what was sent, with its deliveries, and settle the batch
   (`batch_writer`).  Sagas of the same process may consume what they are sent at once (`colocation`).
5. Commit; only then are doorbells rung, and calls made that need a lease (`lease`).

A kill at any point leaves either all of it or nothing.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from internals.database.circuit_breaker import OutOfReach
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import is_conflict, is_frozen, is_transient, prepared_elsewhere
from internals.database.lock_waits import GaveWay
from internals.hop.colocation import ColocatedSaga, HopTransaction
from internals.hop.consumer import Consumer, Handled, Overran, Unprotected
from saga.backoff import Backoff

logger = logging.getLogger(__name__)

#: Deliveries of one hop at most.
BATCH = 64

#: Seconds for which one doorbell drains an inbox before the other consumers get their turn.
_TIME_SLICE = 2.0

#: Times that a hop is run again before the doorbell is given up and left to the relay.
_PATIENCE = 5

#: So often a batch is waited for that another process has, before deliveries are taken one by one
#: beside it, since that process may have been stopped.
_MISSES = 12
#: Seconds between two looks whether it has it still, which is about as long as a batch takes.
_BATCH_PAUSE = 0.02

#: For a saga that another transaction holds.
_HELD = Backoff(0.002, cap=0.064)

#: For a database in trouble.
_TROUBLE = Backoff(0.1, cap=1.6, jitter=1.0)

_FROZEN = (
    "%s: this process, or a handler, stood still for so long that the database ended its transaction; "
    "others do the work, or it is done again"
)
_POOLER = (
    "%s: a pooler gave a prepared statement to a connection that does not have it; "
    "set SAGA_PREPARED_STATEMENTS=off"
)

Ring = Callable[[frozenset[str]], None]


class Colocated(Consumer, ColocatedSaga, Protocol):
    """An orchestrator of this process."""


#: No saga moves in the transaction that sends to it.
NO_SAGAS: Mapping[str, Colocated] = {}


def hop(
    database: Database,
    consumer: Consumer,
    limit: int = BATCH,
    colocated: Mapping[str, Colocated] = NO_SAGAS,
    boundary: Boundary = Boundary.HOP,
) -> Handled:
    """Run one hop and commit it at the boundary; returns what it did.

    The sagas in `colocated` consume what is sent to them in the same transaction: they hear of a
    step at once, for half the commits.  What is stored is the same.

    Raises whatever the database raises; nothing is half done then.
    """
    while True:
        try:
            return _hop(database, consumer, limit, colocated, boundary)
        except Unprotected as error:  # not from the next run, where it takes care
            logger.debug(
                "%s: run again, with a savepoint for each delivery: %r",
                consumer.name,
                error.__cause__,
            )
        except Overran as overran:
            return Handled(claimed=1, settled=1, more=True, woken=overran.outcome())


def _hop(
    database: Database,
    consumer: Consumer,
    limit: int,
    colocated: Mapping[str, Colocated],
    boundary: Boundary,
) -> Handled:
    done, whole = Handled(), False
    try:
        with transaction(database, boundary) as unit:
            done = consumer.handle(HopTransaction(unit, colocated), limit)
            # Those of other names, or that came while another hop held the saga.
            for name in sorted(done.woken & colocated.keys()):
                done = done.followed_by(name, colocated[name].handle(HopTransaction(unit), limit))
            whole = True
    except Exception as error:
        if whole and done.refused(error):
            raise Unprotected from error
        raise
    return done


def drain(
    database: Database,
    consumer: Consumer,
    ring: Ring,
    *,
    limit: int = BATCH,
    time_slice: float = _TIME_SLICE,
    hopping: Callable[[], None] = lambda: None,
    colocated: Mapping[str, Colocated] = NO_SAGAS,
    follow: Ring | None = None,
    gave_way: Callable[[], None] = lambda: None,
    boundary: Boundary = Boundary.HOP,
) -> int:
    """Answer a doorbell: hop until nothing is due, then return the deliveries settled.

    `ring` is called after each commit with the consumers that got something.  After a deadlock
    or a serialization failure the batch is run one by one, so that two batches over the same
    rows cannot starve each other.  When the time slice is over and more may be due, the consumer's
    own doorbell is rung again.

    Args:
        database: Where the inbox is.
        consumer: Whose inbox it is.
        ring: Rings doorbells.
        limit: Deliveries of one hop at most.
        time_slice: Seconds.
        hopping: Called before each hop.
        colocated: As in `hop`.
        follow: Called in place of `ring` after the last hop.
        gave_way: Called where the hop waited in vain for another transaction; nothing more is done
            then, and the callable has the doorbell rung again.
        boundary: As in `hop`.
    """
    draining = _Draining(database, consumer, ring, limit, colocated, follow, boundary)
    until = time.monotonic() + time_slice
    while True:
        hopping()
        try:
            done = draining.hop()
        except GaveWay as error:
            if draining.leaves_sagas_out():  # it may be a saga that waits
                continue
            logger.info("%s: the hop gives way: %s", consumer.name, error)
            gave_way()
            return draining.settled
        except Exception as error:
            if not draining.tries_again(error):
                raise
            continue
        draining.hopped(done)
        if not done.more:
            return draining.settled
        if time.monotonic() > until:
            ring(frozenset({consumer.name}))
            return draining.settled
        draining.wait_for_others(done)


@dataclass(slots=True)
class _Draining:
    """How the answer to one doorbell goes on from hop to hop; the fields are those of `drain`."""

    database: Database
    consumer: Consumer
    ring: Ring
    limit: int
    #: Empty once a saga may have been the trouble.
    colocated: Mapping[str, Colocated]
    follow: Ring | None
    boundary: Boundary
    #: Deliveries so far.
    settled: int = 0
    #: Hops to come that take one delivery each, so that batches do not meet again.
    singles: int = 0
    #: Hops in a row that failed.
    failures: int = 0
    #: Hops in a row that found another process at a batch.
    missed: int = 0
    #: Hops in a row that found all their sagas held by another one.
    held: int = 0

    def hop(self) -> Handled:
        """Run the next hop."""
        limit = 1 if self.singles else self.limit
        return hop(self.database, self.consumer, limit, self.colocated, self.boundary)

    def hopped(self, done: Handled) -> None:
        """Ring for what a hop committed, and do what is left for after the commit."""
        self.failures = 0
        self.singles = max(self.singles - 1, 0)
        self.settled += done.settled
        if done.woken:
            ring = self.ring if done.more or self.follow is None else self.follow
            ring(done.woken)
        if done.after_commit is not None:
            if done.more:
                # Others need not wait for this one's call.
                self.ring(frozenset({self.consumer.name}))
            self.ring(done.after_commit(self.database))

    def leaves_sagas_out(self) -> bool:
        """Go on without sagas; False if none took part."""
        had_sagas, self.colocated = bool(self.colocated), NO_SAGAS
        return had_sagas

    def tries_again(self, error: Exception) -> bool:
        """After a hop that failed, wait for the next, in which batches do not meet again.

        False if the trouble does not pass, or has lasted for too long.
        """
        _tell(self.consumer, error)
        # A saga's trouble must not become that of a context.
        passes = self.leaves_sagas_out() or is_transient(error)
        if not passes or self.failures == _PATIENCE or isinstance(error, OutOfReach):
            return False
        logger.info("%s: the hop is run again: %s", self.consumer.name, type(error).__name__)
        self.failures += 1
        self.singles = self.limit
        if not is_conflict(error):
            time.sleep(_TROUBLE.wait(self.failures, random.random()))
        return True

    def wait_for_others(self, done: Handled) -> None:
        """Sleep if the last hop could do nothing, since others are at it."""
        self.missed = self.missed + 1 if done.missed else 0
        if self.missed == _MISSES:
            self.singles, self.missed = self.limit, 0
        if done.settled:
            self.held = 0
        elif done.missed:
            time.sleep(_BATCH_PAUSE)
        else:
            # Another hop holds these sagas.  It rings nobody for them, so look again soon.
            self.held += 1
            time.sleep(_HELD.longest(self.held))


def _tell(consumer: Consumer, error: Exception) -> None:
    """Say in the log what an error means that has to do with the connection."""
    if is_frozen(error):
        logger.warning(_FROZEN, consumer.name)
    elif prepared_elsewhere(error):
        logger.warning(_POOLER, consumer.name)
