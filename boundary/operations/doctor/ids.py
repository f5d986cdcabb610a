"""Ids: messages that sagas wait for, and that other messages took the place of."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from pydantic import BaseModel
from sqlalchemy import Connection

from boundary.operations.doctor.finding import Finding, Words, fine, wrong
from boundary.queries.query import query
from internals.database.unit_of_work import SqlAlchemyUnitOfWork
from saga.state import IN_FLIGHT, Phase, SagaState

#: Of the sagas that are not over, those that moved last the longest ago: so many are looked at.
_PORTION = 1000

_UNFINISHED = """
SELECT id, coalesce(name || ':' || key, id::text), steps::text FROM {schema}.saga
WHERE finished_at IS NULL ORDER BY updated_at LIMIT %(limit)s
"""

_OTHERS = """
SELECT o.id, o.kind, o.sender
FROM unnest(%(id)s::uuid[], %(saga)s::uuid[]) AS m (id, saga)
JOIN {schema}.outbox AS o ON o.id = m.id
WHERE o.category <> 'command' OR o.saga_id IS DISTINCT FROM m.saga
ORDER BY o.seq
"""


_REFUSED = """
SELECT i.consumer, coalesce(s.name || ':' || s.key, s.id::text), i.message_id, i.last_error
FROM {schema}.inbox AS i LEFT JOIN {schema}.saga AS s ON s.id = i.saga_id
WHERE i.state = 'parked' AND i.outcome = 'id_conflict'
ORDER BY i.due_at
"""


class _NoData(BaseModel):
    """In place of data that is not needed."""


def check_ids(connection: Connection, schema: str, words: Words) -> Finding:
    """Look for messages that could not be sent, or never were, since others have their ids."""
    unit = SqlAlchemyUnitOfWork(connection)
    if refused := query(unit, schema, _REFUSED):
        consumer, name, id, error = refused[0]
        more = f", and {len(refused) - 1:,} more" if len(refused) > 1 else ""
        found = f"{name or consumer}: {error.removeprefix('IdConflict: ')}{more}"
        return wrong("message ids", found, f"`{words.program} trace {id}` shows what sends it")
    asked: dict[UUID, tuple[UUID, str]] = {}
    for saga_id, name, steps in query(unit, schema, _UNFINISHED, limit=_PORTION):
        for id in _awaited(saga_id, json.loads(steps)):
            asked[id] = (saga_id, name)
    sagas = [saga_id for saga_id, _ in asked.values()]
    others = query(unit, schema, _OTHERS, id=list(asked), saga=sagas) if asked else ()
    if not others:
        return fine("message ids", "no saga's command was taken for another message")
    id, kind, sender = others[0]
    _, name = asked[id]
    more = f", and {len(others) - 1:,} more" if len(others) > 1 else ""
    found = f"{name} cannot send its command {id}: {kind} sent by {sender or 'a host'} has that id{more}"
    remedy = f"`{words.program} trace {id}` shows what it is; `{words.program} skip` or cancel"
    return wrong("message ids", found, f"{remedy} lets the saga go on")


def _awaited(saga_id: UUID, steps: Mapping[str, Any]) -> list[UUID]:
    """The ids of the commands that are out."""
    state = SagaState(id=saga_id, data=_NoData())
    return [
        state.command_id(name, Phase(step["phase"]), step["generation"])
        for name, step in steps.items()
        if step["phase"] in IN_FLIGHT and step["phase"] != Phase.WAITING
    ]
