"""The hop: one transaction in which a consumer handles up to N deliveries.

1. A doorbell says that the consumer may have deliveries; a unit of work is opened.
2. Claim: one statement locks due deliveries and returns their messages.
3. Each is handled, within a time budget; if one of a batch raises that has written, all of it once
   more, within savepoints.
4. Finish: set-based statements write what was sent, with its deliveries, and settle the batch.
5. Commit; only then are doorbells rung.

A kill at any point leaves either all of it or nothing.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from internals.database.circuit_breaker import OutOfReach
from internals.database.commit_points import Boundary, transaction
from internals.database.connections import Database
from internals.database.errors import is_conflict, is_frozen, is_transient, prepared_elsewhere
from internals.database.lock_waits import GaveWay
from internals.hop.colocation import Folder
from internals.hop.consumer import Consumer, Handled, Overran, Unprotected

logger = logging.getLogger(__name__)

#: Deliveries of one hop at most.
BATCH = 64

#: Seconds for which one doorbell drains an inbox before the other consumers get their turn.
_TURN = 2.0

#: Times that a hop is run again before the doorbell is given up and left to the relay.
_PATIENCE = 5

#: So often a batch is waited for that another process has, before deliveries are taken one by one
#: beside it, since that process may have been stopped.
_MISSES = 12
#: Seconds between two looks whether it has it still, which is about as long as a batch takes.
_BATCH_PAUSE = 0.02

#: Seconds to wait for a saga that another transaction holds; the wait doubles.
_SHORTEST_PAUSE = 0.002
_LONGEST_PAUSE = 0.064

_FROZEN = (
    "%s: this process, or a handler, stood still for so long that the database ended its transaction; "
    "others do the work, or it is done again"
)
_POOLER = (
    "%s: a pooler gave a prepared statement to a connection that does not have it; "
    "set SAGA_PREPARED_STATEMENTS=off"
)

Ring = Callable[[frozenset[str]], None]


class Colocated(Consumer, Folder, Protocol):
    """An orchestrator of this process."""


_NOBODY: Mapping[str, Colocated] = {}


def hop(
    database: Database,
    consumer: Consumer,
    limit: int = BATCH,
    colocated: Mapping[str, Colocated] = _NOBODY,
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
            logger.debug("%s: run again with care: %r", consumer.name, error.__cause__)
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
            done = consumer.handle(unit, limit, colocated)
            # Those of other names, or that came while another hop held the saga.
            for name in sorted(done.woken & colocated.keys()):
                done = done.followed_by(name, colocated[name].handle(unit, limit))
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
    turn: float = _TURN,
    hopping: Callable[[], None] = lambda: None,
    colocated: Mapping[str, Colocated] = _NOBODY,
    follow: Ring | None = None,
    gave_way: Callable[[], None] = lambda: None,
    boundary: Boundary = Boundary.HOP,
) -> int:
    """Answer a doorbell: hop until nothing is due, then return the deliveries settled.

    `ring` is called after each commit with the consumers that got something.  After a deadlock
    or a serialization failure the batch is run one by one, so that two batches over the same
    rows cannot starve each other.  When the turn is over and more may be due, the consumer's
    own doorbell is rung again.

    Args:
        database, consumer: Whose inbox, and where.
        ring: Rings doorbells.
        limit: Deliveries of one hop at most.
        turn: Seconds.
        hopping: Called before each hop.
        colocated: As in `hop`.
        follow: Called in place of `ring` after the last hop.
        gave_way: Called where the hop waited in vain for another transaction; nothing more is done
            then, and whoever is called sees to it that the doorbell rings again.
        boundary: As in `hop`.
    """
    settled = 0
    singles = failures = 0
    missed = 0
    pause = _SHORTEST_PAUSE
    until = time.monotonic() + turn
    while True:
        hopping()
        try:
            done = hop(database, consumer, 1 if singles else limit, colocated, boundary)
        except GaveWay as error:
            if colocated:  # it may be a saga that waits
                colocated = _NOBODY
                continue
            logger.info("%s: the hop gives way: %s", consumer.name, error)
            gave_way()
            return settled
        except Exception as error:
            _tell(consumer, error)
            # A saga's trouble must not become that of a context.
            transient, colocated = bool(colocated) or is_transient(error), _NOBODY
            if not transient or failures == _PATIENCE or isinstance(error, OutOfReach):
                raise
            logger.info("%s: the hop is run again: %s", consumer.name, type(error).__name__)
            failures += 1
            singles = limit
            if not is_conflict(error):
                time.sleep(random.uniform(0, 0.05 * 2**failures))
            continue
        failures = 0
        singles = max(singles - 1, 0)
        settled += done.settled
        if done.woken:
            (ring if done.more or follow is None else follow)(done.woken)
        if done.leased is not None:
            if done.more:
                ring(frozenset({consumer.name}))  # others need not wait for this one's call
            ring(consumer.finish(database, done.leased))
        if not done.more:
            return settled
        if time.monotonic() > until:
            ring(frozenset({consumer.name}))
            return settled
        missed = missed + 1 if done.missed else 0
        if missed == _MISSES:
            singles, missed = limit, 0
        pause = _wait_for_others(done, pause)


def _tell(consumer: Consumer, error: Exception) -> None:
    """Say in the log what an error means that has to do with the connection."""
    if is_frozen(error):
        logger.warning(_FROZEN, consumer.name)
    elif prepared_elsewhere(error):
        logger.warning(_POOLER, consumer.name)


def _wait_for_others(done: Handled, pause: float) -> float:
    """Sleep if the hop could do nothing, and return the next pause."""
    if done.settled:
        return _SHORTEST_PAUSE
    if done.missed:
        time.sleep(_BATCH_PAUSE)
        return pause
    # Another hop holds these sagas.  It rings nobody for them, so look again soon.
    time.sleep(pause)
    return min(2 * pause, _LONGEST_PAUSE)
