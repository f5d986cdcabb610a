"""Saga detail: one saga, as an operator wants to know it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from boundary.queries.audit import AuditEntry, saga_audit
from boundary.queries.blocked_on import StepDetail, waits_for
from boundary.queries.blocking_sessions import Holder, holders_of
from boundary.queries.open_deliveries import OpenDelivery, open_counts, open_deliveries
from boundary.queries.query import query
from boundary.queries.reference import find_saga
from boundary.queries.running import Running, running
from boundary.queries.saga_list import SUMMARY_COLUMNS, SagaSummary, summary
from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.delivery import DeliveryState
from saga.definition import Saga
from saga.state import IN_FLIGHT, Phase, SagaState
from saga.steps import Wait

_SAGA = f"SELECT {SUMMARY_COLUMNS}, data::text, steps::text FROM {{schema}}.saga WHERE id = %(id)s"

_COMMANDS = """
SELECT id, kind, recipient, awaits, sent_at FROM {schema}.outbox
WHERE id = ANY (%(ids)s) ORDER BY seq
"""

_TIMERS = """
SELECT message_id, due_at FROM {schema}.inbox
WHERE message_id = ANY (%(ids)s) AND state = 'pending'
"""

# Orders to undo that undid nothing: nobody can, or nobody is to any more.
_STANDING = """
SELECT i.consumer, o.payload ->> 'message_kind', (o.payload ->> 'message_id')::uuid, i.last_error
FROM {schema}.outbox AS o JOIN {schema}.inbox AS i ON i.message_id = o.id
WHERE o.saga_id = %(id)s AND o.kind = 'saga.undo'
  AND (i.outcome = 'no_undo' OR i.state = 'revoked')
ORDER BY o.seq
LIMIT 100
"""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a causal compensation left as it is.

    Attributes:
        consumer: Whose handler did it.
        kind: The kind of the message that it handled.
    """

    consumer: str
    kind: str
    message_id: UUID
    why: str


@dataclass(frozen=True, slots=True)
class SagaDetail:
    """One saga with all that an operator asks about it.

    Attributes:
        data: As it is stored: what the definition's data model makes of it is the application's.
        steps: In the order in which they began, the skipped ones last; or as the caller ordered
            them.
        deliveries: Deliveries that are pending or parked, a hundred at most, the parked ones first.
        waits_for: What it waits for now, in one sentence; None when it is over.
        commands: Ids of all commands that its steps may have sent, with the step and what they were
            for.
        running: Its deliveries that are being handled for long.
        standing: What its causal compensations could not undo, a hundred at most.
        audit: What was done to it by hand, the first act first.
        holders: Sessions that hold it, or deliveries of it, and do nothing.
    """

    saga: SagaSummary
    data: Any
    steps: tuple[StepDetail, ...]
    deliveries: tuple[OpenDelivery, ...]
    waits_for: str | None
    commands: Mapping[UUID, tuple[str, Phase]]
    running: tuple[Running, ...]
    standing: tuple[Standing, ...]
    audit: tuple[AuditEntry, ...]
    holders: tuple[Holder, ...] = ()

    @property
    def parked(self) -> tuple[OpenDelivery, ...]:
        """Those of its deliveries that failed for good."""
        return tuple(d for d in self.deliveries if d.state is DeliveryState.PARKED)


class _NoData(BaseModel):
    """In place of data that this process may have no model for."""


def show_saga(
    unit: UnitOfWork,
    schema: str,
    reference: str | UUID,
    *,
    definition: Saga[Any] | None = None,
) -> SagaDetail:
    """Return one saga.

    Read within one snapshot (``REPEATABLE READ``) if what it waits for is to be exact.

    Args:
        unit: The transaction that reads.
        schema: Of the framework's tables.
        reference: Its id, ``name:key`` or its key alone.
        definition: The saga's, if it is known: steps come in its order then, and it is told which
            outside messages they wait for.

    Raises:
        UnknownSaga: No saga is called so, or several are.
    """
    id = find_saga(unit, schema, reference)
    [(*columns, data, stored)] = query(unit, schema, _SAGA, id=id)
    steps = json.loads(stored)
    saga = summary(tuple(columns))
    commands = _commands(id, steps)
    sent = {row[0]: row for row in query(unit, schema, _COMMANDS, ids=list(commands))}
    timers = _timers(unit, schema, id, steps)
    details = _ordered(steps, commands, sent, definition, timers)
    deliveries = open_deliveries(unit, schema, id)
    waits = None
    if not saga.status.final:
        owners = {command: name for command, (name, _) in commands.items()}
        counts = open_counts(unit, schema, id)
        waits = waits_for(details, deliveries, counts, owners, saga.at)
    return SagaDetail(
        saga=saga,
        data=json.loads(data),
        steps=details,
        deliveries=deliveries,
        waits_for=waits,
        commands=commands,
        running=() if saga.status.final else running(unit, schema, saga_id=id),
        standing=tuple(
            Standing(consumer, kind, message, why.removeprefix("stands: "))  # the list says so
            for consumer, kind, message, why in query(unit, schema, _STANDING, id=id)
        ),
        audit=saga_audit(unit, schema, id),
        holders=() if saga.status.final else tuple(holders_of(unit, schema, id)),
    )


def show_known_saga(
    unit: UnitOfWork,
    schema: str,
    reference: str | UUID,
    definitions: Mapping[str, Mapping[int, Saga[Any]]],
) -> SagaDetail:
    """Return one saga as `show_saga` does, with its definition if it is among these.

    The definitions are by name and version.
    """
    detail = show_saga(unit, schema, reference)
    definition = definitions.get(detail.saga.name, {}).get(detail.saga.version)
    if definition is None:
        return detail
    return show_saga(unit, schema, detail.saga.id, definition=definition)


def _commands(id: UUID, steps: Mapping[str, Any]) -> dict[UUID, tuple[str, Phase]]:
    state = SagaState(id=id, data=_NoData())
    return {
        state.command_id(name, phase, generation): (name, phase)
        for name, step in steps.items()
        for phase in sorted(IN_FLIGHT)
        for generation in range(1, step["generation"] + 1)
    }


def _ordered(
    steps: Mapping[str, Any],
    commands: Mapping[UUID, tuple[str, Phase]],
    sent: Mapping[UUID, Row],
    definition: Saga[Any] | None,
    timers: Mapping[str, datetime],
) -> tuple[StepDetail, ...]:
    """The steps with the command each sent last; what was sent comes in order of sending."""
    order = [step.name for step in definition or ()]
    kinds = {step.name: step.awaits for step in definition or () if isinstance(step, Wait)}
    latest = {commands[id][0]: row for id, row in sent.items()}
    begun = (commands[id][0] for id in sent)
    places = {name: place for place, name in enumerate(dict.fromkeys((*order, *begun)))}
    names = sorted(steps, key=lambda name: places.get(name, len(places)))
    # Those of the step's generation of now come last.
    undos = {name: id for id, (name, phase) in commands.items() if phase is Phase.COMPENSATING}
    # A compensation without a command is a causal one.
    causal = {name: id for name, id in undos.items() if id not in sent}
    found = (_step(name, steps[name], latest.get(name), causal.get(name)) for name in names)
    return tuple(
        replace(step, awaits=kinds.get(step.name, step.awaits), until=timers.get(step.name))
        for step in found
    )


def _timers(
    unit: UnitOfWork, schema: str, id: UUID, steps: Mapping[str, Any]
) -> dict[str, datetime]:
    """When the time is over of each step that waits for an outside message."""
    state = SagaState(id=id, data=_NoData())
    ids = {
        state.timer_id(name, step["generation"]): name
        for name, step in steps.items()
        if step["phase"] == Phase.WAITING
    }
    if not ids:
        return {}
    return {ids[timer]: due_at for timer, due_at in query(unit, schema, _TIMERS, ids=list(ids))}


def _step(
    name: str, stored: Mapping[str, Any], command: Row | None, undo_id: UUID | None
) -> StepDetail:
    phase = Phase(stored["phase"])
    id, kind, recipient, awaits, sent_at = command or (None, None, None, (), None)
    return StepDetail(
        name=name,
        phase=phase,
        generation=stored["generation"],
        rejection=stored.get("rejection"),
        fault=stored.get("fault"),
        command_id=id,
        command=kind,
        asked_of=recipient,
        asked_at=sent_at,
        awaits=tuple(awaits),
        undo_id=undo_id if phase is Phase.COMPENSATING else None,
        doubt=bool(stored.get("doubt")),
    )
