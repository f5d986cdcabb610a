"""Trace: the causal tree of messages and deliveries, read from the outbox and the inbox.

A message hangs below the one whose handling sent it, so one tree shows the orchestrated half and
the choreographed half of a saga alike.  Payloads are not part of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from internals.database.unit_of_work import Row, UnitOfWork
from internals.store.delivery import DeliveryOutcome, DeliveryState, WaitReason
from internals.store.delivery_times import Waits, waited
from internals.store.sql import statements
from saga.envelope import Category

#: Messages of one trace at most; the earliest are kept.
MAX_MESSAGES = 10_000

_READ = """
SELECT t.id, t.kind, t.category, t.saga_id, t.causation_id, t.root_id, t.sender, t.sent_at,
    CASE WHEN t.kind = 'saga.undo' THEN t.payload ->> 'message_kind' END, t.repeats,
    t.depth, t.origin,
    i.consumer, i.state, i.attempts, i.rings, i.last_error, i.due_at, i.done_at, i.position,
    i.took, i.ordering_key, i.backfill, i.wait_reason, i.outcome,
    i.ready_at, i.rung_at, i.claimed_at, acts.done,
    clock_timestamp()
FROM told AS t LEFT JOIN {schema}.inbox AS i ON i.message_id = t.id
LEFT JOIN (
    SELECT a.message_id, json_agg(json_build_array(a.detail ->> 'consumer', a.act, a.actor, a.reason)
        ORDER BY a.seq)::text AS done
    FROM {schema}.audit AS a WHERE a.message_id IN (SELECT id FROM told) GROUP BY 1
) AS acts ON acts.message_id = t.id
ORDER BY t.seq, i.done_at NULLS LAST, i.consumer
"""

# With the begin of sagas that handlers of its messages started.
_OF_SAGA = f"""
WITH own AS MATERIALIZED (
    SELECT * FROM {{schema}}.outbox WHERE saga_id = %(id)s ORDER BY seq LIMIT %(limit)s
), told AS MATERIALIZED (
    SELECT * FROM own
    UNION ALL
    SELECT o.* FROM own JOIN {{schema}}.outbox AS o ON o.causation_id = own.id
    WHERE o.kind = 'saga.started'
)
{_READ}
"""

# The outer limit ends the recursion too: Postgres makes no more rows than are asked for.
_UNDER_MESSAGE = f"""
WITH RECURSIVE origin AS (
    SELECT coalesce(r.id, m.id) AS id
    FROM {{schema}}.outbox AS m LEFT JOIN {{schema}}.outbox AS r ON r.id = m.root_id
    WHERE m.id = %(id)s
), caused AS (
    SELECT o.* FROM {{schema}}.outbox AS o JOIN origin USING (id)
    UNION ALL
    SELECT o.* FROM caused AS c JOIN {{schema}}.outbox AS o ON o.causation_id = c.id
), told AS MATERIALIZED (
    SELECT * FROM caused LIMIT %(limit)s
)
{_READ}
"""

#: Columns of a row that are the message's; its delivery's come after them.
_MESSAGE_COLUMNS = 12


@dataclass(frozen=True, slots=True)
class TracedAct:
    """What an operator did with a parked delivery."""

    #: Such as "parked retry".
    act: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class TracedDelivery:
    """What became of one message at one consumer."""

    consumer: str
    state: DeliveryState
    #: Runs that failed.
    attempts: int
    #: How often the relay rang for it.
    rings: int
    #: Why it failed, or was rejected, or had no effect; None if nothing is to be said.
    last_error: str | None
    #: Not run before; in the future for one that waits for its next attempt.  None where no time is
    #: known.
    due_at: datetime | None
    done_at: datetime | None
    #: How-manieth message its saga consumed.
    position: int | None
    #: Seconds that its handler ran, the last time; None where none did.
    took: float | None = None
    #: Those of one key go one after the other.
    ordering_key: str | None = None
    #: Whether it is a past event that a new subscriber was handed.
    backfill: bool = False
    #: What it waits for beside a time, or waited for last.
    wait_reason: WaitReason | None = None
    #: What it ended with, or its last try; None where nobody has tried it yet.
    outcome: DeliveryOutcome | None = None
    #: What operators did with it while it was parked, in order.
    acts: tuple[TracedAct, ...] = ()
    #: What it waited for; None unless it is done.
    waits: Waits | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One message, with its deliveries and what their handling sent."""

    id: UUID
    kind: str
    category: Category
    saga_id: UUID | None
    causation_id: UUID | None
    root_id: UUID
    #: The consumer that sent it; None for a host's code.
    sender: str | None
    sent_at: datetime
    deliveries: tuple[TracedDelivery, ...]
    children: tuple["Node", ...]
    #: Of an order to undo, the kind of the message whose handling is undone.
    undoes: str | None = None
    #: How often it was sent again, and dropped.
    repeats: int = 0
    #: Messages above it that handlers handled.
    depth: int = 0
    #: Of one that came in by a bridge, its bridge, source and id there.
    origin: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """A causal tree; several roots where a message came from outside or was pruned."""

    roots: tuple[Node, ...]
    #: When it was read, by Postgres' clock; None for an empty one.
    at: datetime | None = None
    #: Whether there is more than `MAX_MESSAGES`.
    truncated: bool = False

    def walk(self) -> Iterator[tuple[int, Node]]:
        """Iterate over depth and node, parents before children, siblings in order of sending."""
        waiting = [(0, root) for root in reversed(self.roots)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting.extend((depth + 1, child) for child in reversed(node.children))


def trace(unit: UnitOfWork, schema: str, saga_id: UUID, limit: int = MAX_MESSAGES) -> Trace:
    """Return all messages of a saga, and the start of those that its handlers started.

    It is empty for a saga that does not exist.
    One statement.  Raises `DefinitionError` for a schema name that is no identifier.
    """
    return _read(unit, schema, _OF_SAGA, saga_id, limit)


def trace_message(
    unit: UnitOfWork, schema: str, message_id: UUID, limit: int = MAX_MESSAGES
) -> Trace:
    """Return the tree that a message is part of: its root, and all that the root caused.

    Works for messages outside sagas too; for one of a saga the root is the step's command.
    Empty for a message that does not exist.  One statement; raises as `trace` does.
    """
    return _read(unit, schema, _UNDER_MESSAGE, message_id, limit)


def _read(unit: UnitOfWork, schema: str, sql: str, id: UUID, limit: int) -> Trace:
    statements(schema)  # refuses a name that is no identifier
    rows = unit.run(sql.format(schema=schema), {"id": id, "limit": limit + 1})
    if not rows:
        return Trace(())
    messages: dict[UUID, list[Row]] = {}
    for row in rows:
        messages.setdefault(row[0], []).append(row)
    kept = list(messages.values())[:limit]
    return Trace(_tree(kept), at=rows[0][-1], truncated=len(messages) > limit)


def _tree(messages: Sequence[Sequence[Row]]) -> tuple[Node, ...]:
    """Build nodes from the last message to the first: whatever caused one stands before it."""
    places = {rows[0][0]: place for place, rows in enumerate(messages)}
    children: dict[UUID | None, list[Node]] = {}
    for place in range(len(messages) - 1, -1, -1):
        rows = messages[place]
        id, kind, category, saga_id, causation_id, root_id, sender, sent_at, undoes, *rest = rows[
            0
        ][:_MESSAGE_COLUMNS]
        repeats, depth, origin = rest
        node = Node(
            id=id,
            kind=kind,
            category=Category(category),
            saga_id=saga_id,
            causation_id=causation_id,
            root_id=root_id,
            sender=sender,
            sent_at=sent_at,
            deliveries=tuple(
                _delivery(row, sent_at) for row in rows if row[_MESSAGE_COLUMNS] is not None
            ),
            children=tuple(reversed(children.pop(id, ()))),
            undoes=undoes,
            repeats=repeats,
            depth=depth,
            origin=json.loads(origin) if origin else None,
        )
        known = places.get(causation_id, place) < place
        children.setdefault(causation_id if known else None, []).append(node)
    return tuple(reversed(children[None]))


def _delivery(row: Row, sent_at: datetime) -> TracedDelivery:
    consumer, state, *rest, waits_for, outcome, ready_at, rung_at, claimed_at, acts = row[
        _MESSAGE_COLUMNS:-1
    ]
    # Without a consumer all of the message's parked deliveries were meant.
    listed = json.loads(acts) if acts else ()
    delivery = TracedDelivery(consumer, DeliveryState(state), *rest)
    acts_here = tuple(TracedAct(*act) for of, *act in listed if of in (None, consumer))
    ended = None if outcome is None else DeliveryOutcome(outcome)
    reason = None if waits_for is None else WaitReason(waits_for)
    delivery = replace(delivery, wait_reason=reason, outcome=ended, acts=acts_here)
    if delivery.state is not DeliveryState.DONE or delivery.done_at is None:
        return delivery
    waits = waited(
        sent_at=sent_at,
        due_at=delivery.due_at,
        forwarded=reason in (WaitReason.FORWARDING, WaitReason.FORWARDED),
        ready_at=ready_at,
        rung_at=rung_at,
        claimed_at=claimed_at,
        done_at=delivery.done_at,
        took=delivery.took,
    )
    return replace(delivery, waits=waits)
