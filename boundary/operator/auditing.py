"""Auditing: what was done by hand to a saga or to a message, and who did it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from boundary.operator.query import query

_COLUMNS = "a.at, a.actor, a.act, a.message_id, a.reason, a.detail"

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


def saga_audit(connection: Connection, schema: str, saga_id: UUID) -> tuple[AuditEntry, ...]:
    """Return what was done to a saga and to its messages, the first act first."""
    return tuple(AuditEntry(*row) for row in query(connection, schema, _OF_SAGA, id=saga_id))


def message_audit(connection: Connection, schema: str, message_id: UUID) -> tuple[AuditEntry, ...]:
    """Return what was done to a message, the first act first."""
    return tuple(AuditEntry(*row) for row in query(connection, schema, _OF_MESSAGE, id=message_id))
