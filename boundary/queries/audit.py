"""Auditing: what was done by hand to a saga or to a message, and who did it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from boundary.queries.query import query
from internals.database.unit_of_work import Row, UnitOfWork

_COLUMNS = "a.at, a.actor, a.act, a.message_id, a.reason, a.detail::text"

# Acts on parked deliveries name the message only.
_OF_SAGA = f"""
SELECT {_COLUMNS} FROM {{schema}}.audit AS a
WHERE a.saga_id = %(id)s OR (a.saga_id IS NULL AND EXISTS (
    SELECT FROM {{schema}}.outbox AS o WHERE o.id = a.message_id AND o.saga_id = %(id)s))
ORDER BY a.seq
"""

_OF_MESSAGE = f"""
SELECT {_COLUMNS} FROM {{schema}}.audit AS a WHERE a.message_id = %(id)s ORDER BY a.seq
"""


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One act: who did what, when, and why."""

    at: datetime
    actor: str
    act: str
    #: For acts on parked deliveries, and signals.
    message_id: UUID | None
    reason: str
    #: What the act was given.
    detail: Mapping[str, Any]


def saga_audit(unit: UnitOfWork, schema: str, saga_id: UUID) -> tuple[AuditEntry, ...]:
    """Return what was done to a saga and to its messages, the first act first."""
    return tuple(_entry(row) for row in query(unit, schema, _OF_SAGA, id=saga_id))


def message_audit(unit: UnitOfWork, schema: str, message_id: UUID) -> tuple[AuditEntry, ...]:
    """Return what was done to a message, the first act first."""
    return tuple(_entry(row) for row in query(unit, schema, _OF_MESSAGE, id=message_id))


def _entry(row: Row) -> AuditEntry:
    at, actor, act, message_id, reason, detail = row
    return AuditEntry(at, actor, act, message_id, reason, json.loads(detail))
