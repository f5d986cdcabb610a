"""Causal undo: what a step caused is undone by walking its causal tree backwards.

1. The step's commands are marked: whatever still happens below them is undone too.
2. Deliveries that were not begun are revoked.
3. Each handler that ran is ordered to undo that, one order after the other, the last to be done
   first, whichever contexts they are in.  The orders have one ordering key.
4. A delivery that could not be revoked, since it was being handled, does steps 2 to 4 once more
   in the transaction that ends it.
5. The saga is notified when no order, and nothing below the commands, is open.

Each order is made once, however often this is run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from internals.database.unit_of_work import UnitOfWork
from internals.store.sql import Statements


@dataclass(frozen=True, slots=True)
class Undoing:
    """All that a step's commands caused, to be undone."""

    #: The compensation, under whose id the orders are counted.
    id: UUID
    #: The commands.
    roots: Sequence[UUID]
    saga_id: UUID
    saga: str
    #: The message whose handling calls for it.
    cause: UUID | None


@dataclass(frozen=True, slots=True)
class Unwound:
    """What follows from it."""

    #: Consumers that got something.
    woken: set[str]
    #: Ordering keys whose first delivery may go on.
    keys: set[str]


def unwind(unit: UnitOfWork, statements: Statements, undoing: Undoing, *, grace: float) -> Unwound:
    """Order all to be undone that these commands of one saga caused.

    Args:
        unit: The transaction.
        statements: For the schema.
        undoing: What is to be undone.
        grace: Seconds that what is sent to the saga may wait before the relay rings for it.
    """
    told: dict[str, object] = {
        "undo": undoing.id,
        "root": sorted(undoing.roots),
        "saga_id": undoing.saga_id,
        "saga": undoing.saga,
        "cause": undoing.cause,
    }
    key = f"undo:{undoing.id}"
    unit.run(statements.mark_undone, told)
    unit.run(statements.begin_undo, told)
    freed = {k for (k,) in unit.run(statements.take_back, told) if k is not None}
    orders = unit.run(statements.order_undo, {**told, "key": key})
    woken = unit.run(
        statements.recount, {**told, "added": len(orders), "consumer": None, "grace": grace}
    )
    return Unwound({consumer for (consumer,) in woken}, {key, *freed})
