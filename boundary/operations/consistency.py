"""Consistency: whether each saga's stored state is what its consumed messages lead to.

That is one of the framework's promises, and this is the check of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from boundary.orchestration.saga_rows import StoredSaga
from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.delivery import DELIVERY_COLUMNS, delivery
from internals.store.sql import Statements
from saga.decide import fold
from saga.definition import Saga


def differences(
    unit: UnitOfWork,
    statements: Statements,
    definitions: Mapping[str, Mapping[int, Saga[Any]]],
    ids: Sequence[UUID] | None = None,
) -> Iterator[str]:
    """Fold the consumed messages of sagas, and tell where the stored state differs.

    Args:
        unit: Only read from; a repeatable snapshot if other transactions write meanwhile.
        statements: For the schema.
        definitions: By name and version; a saga of another one is passed over.
        ids: The sagas to look at; all of them if not given.

    Yields:
        A sentence for each saga whose history and state do not agree.
    """
    rows = unit.run(statements.history, {"id": None if ids is None else list(ids)})
    for saga_id, history in groupby(rows, key=lambda row: row[4]):
        yield from _differences_of(saga_id, list(history), definitions)


def _differences_of(
    saga_id: UUID, rows: list[Row], definitions: Mapping[str, Mapping[int, Saga[Any]]]
) -> Iterator[str]:
    name, *columns = rows[0][DELIVERY_COLUMNS:]
    stored = StoredSaga(*columns)
    saga = definitions.get(name, {}).get(stored.version)
    if saga is None:
        return
    messages = [delivery(row).message for row in rows]
    if len(messages) != stored.consumed:
        yield f"saga {saga_id} consumed {stored.consumed} messages and {len(messages)} are there"
        return
    if fold(saga, saga_id, messages) != stored.state(saga, saga_id):
        yield f"saga {saga_id} is not what its {len(messages)} messages lead to"
