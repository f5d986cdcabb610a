"""Audit: who did what to which saga or delivery, and why; rows are only ever added."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from internals.database.errors import storable
from internals.database.unit_of_work import UnitOfWork
from internals.ids import uuid7
from internals.store.outbox import Outbox
from internals.store.sql import Statements
from saga.errors import PayloadError

#: Characters that are kept of why an act was done, and of who did it.
MAX_REASON = 2000
MAX_ACTOR = 200


def check_words(actor: str, reason: str) -> None:
    """Raise `PayloadError` for a reason that is blank, and for what cannot be kept as it is."""
    if not reason.strip():
        raise PayloadError("give a reason: it is kept with the act")
    for text, of, most in ((reason, "a reason", MAX_REASON), (actor, "an actor", MAX_ACTOR)):
        if len(text) > most:
            raise PayloadError(f"{of} has {most:,} characters at most, not {len(text):,}")
        if storable(text) != text:
            raise PayloadError(f"{of} has a character that Postgres refuses, such as NUL")


class Audit:
    """Writes the audit in the transaction of what is audited.  Stateless."""

    def __init__(self, outbox: Outbox, statements: Statements) -> None:
        self._outbox = outbox
        self._statements = statements

    def record(
        self,
        unit: UnitOfWork,
        actor: str,
        act: str,
        reason: str,
        detail: Mapping[str, Any],
        saga_id: UUID | None = None,
        message_id: UUID | None = None,
    ) -> None:
        """Write down who did what and why.

        Raises `PayloadError` for a reason that is blank, and for what is too long to be kept.
        """
        check_words(actor, reason)
        text = json.dumps(dict(detail))
        self._outbox.check_size(text, f"the detail of {act!r}")
        unit.run(
            self._statements.audit,
            {
                "id": uuid7(),
                "actor": actor,
                "act": act,
                "saga_id": saga_id,
                "message_id": message_id,
                "reason": reason,
                "detail": text,
            },
        )
