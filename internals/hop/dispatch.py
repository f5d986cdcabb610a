"""Dispatch: which handler a claimed delivery is given to, or why it is given to none."""

import random
from collections.abc import Container
from uuid import UUID

from internals.context import Context
from internals.database.errors import describe
from internals.database.lock_waits import GaveWay
from internals.handler import Handler
from internals.hop.batch import Batch
from internals.hop.uncounted_retries import wait_for_key
from internals.hop.unhandled import UNREADABLE, Left
from internals.store.delivery import Delivery
from internals.undo import NoUndo


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
    if batch.known and _waits_for_key(delivery, batch):
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
        reason = f"no handler for {kind} in this worker"
        batch.leave_to_others(delivery, reason, delay=left.delay(kind, reason))
    else:
        return handler
    return None


def leave_unread(delivery: Delivery, error: Exception, batch: Batch, left: Left) -> None:
    """Leave what cannot be read to a worker of another release."""
    reason = f"{UNREADABLE}{error}"
    batch.leave_to_others(delivery, reason, delay=left.delay(delivery.message.kind, reason))


def _waits_for_key(delivery: Delivery, batch: Batch) -> bool:
    """Leave a delivery whose last run needed what another transaction holds; says if it did.

    It is no trouble of the delivery's, and never counted: the other one may take long.
    """
    outcome = batch.known.get((delivery.message.id, delivery.attempts))
    if outcome is None or not isinstance(outcome.error, GaveWay):
        return False
    yields, delay = wait_for_key(delivery.yields, random.random())
    batch.leave(delivery, describe(outcome.error), delay=delay, yields=yields)
    return True
