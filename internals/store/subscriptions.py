"""Subscriptions: which consumer gets which events, as data.

A worker records its contexts' subscriptions when it boots.  From that commit on, publishers fan
out to them without knowing anyone.
"""

from collections.abc import Iterable

from internals.context import Context
from internals.database.unit_of_work import UnitOfWork
from internals.store.sql import Statements


def subscribe(unit: UnitOfWork, statements: Statements, contexts: Iterable[Context]) -> None:
    """Record what these contexts react to.  Repeating it changes nothing."""
    found = [
        (kind, context.name, field) for context in contexts for kind, field in context.subscriptions
    ]
    if found:
        unit.run(
            statements.subscribe,
            {
                "kind": [kind for kind, _, _ in found],
                "consumer": [name for _, name, _ in found],
                "ordered_by": [field for _, _, field in found],
            },
        )
