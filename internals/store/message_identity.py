"""Message identity: whether a message that is there already is the one that is to be sent.

The same decision sends a message under the same id, so one that is sent again is dropped.  Another
message under that id would make it vanish, and its recipient wait for ever: that is an error.
"""

from collections.abc import Iterable
from uuid import UUID

from internals.database.unit_of_work import UnitOfWork
from internals.store.sql import Statements
from saga.envelope import Envelope
from saga.errors import IdConflict


def identity(message: Envelope) -> dict[str, object]:
    """Return what two messages under one id must have in common to be the same."""
    return {
        "id": message.id,
        "kind": message.kind,
        "category": message.category.value,
        "recipient": message.recipient,
        "sender": message.sender,
        "origin": message.origin,
        "root_id": message.root_id or message.id,
        "saga_id": message.saga_id,
    }


def by_id(messages: Iterable[Envelope]) -> dict[UUID, Envelope]:
    """Return messages by their ids; raises `IdConflict` where two different ones have the same."""
    found: dict[UUID, Envelope] = {}
    for message in messages:
        known = found.setdefault(message.id, message)
        if known is not message and identity(known) != identity(message):
            raise _conflict({message.id: (message, _named(known.kind, known.sender))})
    return found


def refuse_others(unit: UnitOfWork, statements: Statements, messages: Iterable[Envelope]) -> None:
    """Raise `IdConflict` for each of these whose id another message has.

    Args:
        unit: The transaction.
        statements: For the schema.
        messages: Those whose ids were found to be there.
    """
    others = [m for m in messages if not unit.run(statements.sent_before, identity(m))]
    if others:
        raise conflict(unit, statements, others)


def conflict(unit: UnitOfWork, statements: Statements, others: Iterable[Envelope]) -> IdConflict:
    """Return the error that names these messages, and what has their ids."""
    found = {}
    for message in others:
        rows = unit.run(statements.holder, {"id": message.id})
        held = "a message that is being written"
        for kind, sender, saga, saga_id in rows:
            held = _named(kind, sender) + (f", of saga {saga} {saga_id}" if saga else "")
        found[message.id] = (message, held)
    return _conflict(found)


def _conflict(found: dict[UUID, tuple[Envelope, str]]) -> IdConflict:
    reasons = {
        id: f"{message.kind} cannot be sent: its id {id} belongs to {held}; "
        f"look at `saga trace {id}`"
        for id, (message, held) in found.items()
    }
    return IdConflict(reasons)


def _named(kind: str, sender: str | None) -> str:
    return f"another message, {kind} sent by {sender or 'a host'}"
