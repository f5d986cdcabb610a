"""Host writes: starts, publishes, signals and cancels in the transaction of the caller's own writes.

Nothing is committed here, and doorbells are rung once the caller has committed.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from boundary.orchestration.operator_actions import Acted, OperatorActions
from boundary.orchestration.start import Starter, business_key
from boundary.runtime.declarations import check_event
from boundary.runtime.wiring import Wiring
from internals.database.lock_waits import bounded
from internals.database.unit_of_work import UnitOfWork
from internals.ids import uuid7
from internals.work import depth_here
from saga.definition import Saga
from saga.envelope import Category, Envelope
from saga.messages import Cancelled, Event

D = TypeVar("D", bound=BaseModel)

#: What the caller's own writes use: a SQLAlchemy Session or Connection, unless the runtime's
#: database says otherwise.
Handle = Any

#: Business keys that an error names.
_NAMED = 3


class HostWrites:
    """Writes in callers' transactions.  Stateless; safe to share between threads.

    Each method raises what the method of `boundary.Runtime` with the same name does.

    Args:
        wiring: The runtime's.
        acts: Signals and cancels sagas.
    """

    def __init__(self, wiring: Wiring, acts: OperatorActions) -> None:
        self._wiring = wiring
        self._acts = acts
        self._starter = Starter(wiring.outbox, wiring.statements)

    def start_many(
        self, handle: Handle, saga: Saga[D], items: Sequence[D], keys: Sequence[str | None]
    ) -> list[UUID]:
        """Start a saga for each item, all or none; returns the ids in the order of the items."""
        return self.start_in(self._joined(handle), saga, items, keys)

    def start_in(
        self, unit: UnitOfWork, saga: Saga[D], items: Sequence[D], keys: Sequence[str | None]
    ) -> list[UUID]:
        """Start a saga for each item in this transaction."""
        chosen = [business_key(saga, item, key) for item, key in zip(items, keys, strict=True)]
        with self._bounded(unit, _keys_of(saga, chosen)):
            ids, woken = self._starter.start(unit, saga, items, chosen)
        unit.on_commit(lambda: self._wiring.ring(woken))
        return ids

    def publish(self, handle: Handle, event: Event) -> UUID:
        """Publish a domain event and return its id."""
        check_event(event)
        unit = self._joined(handle)
        id = uuid7()
        message = Envelope(
            id=id,
            kind=event.kind,
            category=Category.EVENT,
            payload=event.to_json(),
            root_id=id,
            depth=depth_here(),
        )
        outbox = self._wiring.outbox
        outbox.check_depth(message.depth, event.kind)
        with self._bounded(unit, f"the ordering key of {event.kind}"):
            woken = outbox.send(unit, [message])
        unit.on_commit(lambda: self._wiring.ring(woken))
        return id

    def signal(self, handle: Handle, saga_id: UUID, event: Event, id: UUID | None) -> None:
        """Send a saga an outside message."""
        self.signal_in(self._joined(handle), saga_id, event, id)

    def signal_in(self, unit: UnitOfWork, saga_id: UUID, event: Event, id: UUID | None) -> None:
        """Send a saga an outside message in this transaction."""
        with self._bounded(unit, f"saga {saga_id}"):
            woken = self._acts.signal(unit, saga_id, event, id=id)
        unit.on_commit(lambda: self._wiring.ring(woken))

    def cancel(self, handle: Handle, saga_id: UUID, *, reason: str, actor: str) -> Acted:
        """Cancel a saga."""
        return self.cancel_in(self._joined(handle), saga_id, reason=reason, actor=actor)

    def cancel_in(self, unit: UnitOfWork, saga_id: UUID, *, reason: str, actor: str) -> Acted:
        """Cancel a saga in this transaction."""
        with self._bounded(unit, f"saga {saga_id}"):
            acted = self._acts.act(unit, saga_id, Cancelled(reason=reason), actor=actor)
        unit.on_commit(lambda: self._wiring.ring(acted.woken))
        return acted

    def _joined(self, handle: Handle) -> UnitOfWork:
        wiring = self._wiring
        wiring.own_databases.refuse(handle, lambda: wiring.engine)
        return wiring.database.joined(handle)

    def _bounded(self, unit: UnitOfWork, what: str) -> AbstractContextManager[None]:
        return bounded(unit, self._wiring.bounds.wait, what)


def _keys_of(saga: Saga[Any], keys: Sequence[str | None]) -> str:
    """What the start of sagas locks, as an error says it."""
    found = [repr(key) for key in keys if key is not None]
    more = ", …" if len(found) > _NAMED else ""
    named = f" {', '.join(found[:_NAMED])}{more}" if found else ""
    return f"the start of {saga.name}{named}"
