"""Statements: all SQL of the framework's writes, static, whoever's cursor runs it.

What each hop runs is in `internals.store.sql.hop`, the count and undo of causal trees in `internals.store.sql.causal`,
and order in `internals.store.sql.ordering`; the rest is here.  Contexts with a database of their own
have further ones (`internals.remote.statements`).

Placeholders are ``%(name)s``, which SQLAlchemy's `exec_driver_sql`, Django's cursor and psycopg
all understand.  A batch travels as one JSON text (see `internals.store.json_rows`), so that it costs the
same number of statements as one message.
"""

import re
from dataclasses import dataclass, fields
from functools import cache
from typing import TypeVar

from internals.store.sql import causal as causal_sql
from internals.store.sql import hop as hop_sql
from internals.store.sql import ordering as ordering_sql
from internals.store.sql.sentinels import FORWARDED, FORWARDING
from saga.errors import DefinitionError

# A delivery that is handled outside the transaction that claimed it.  It is not due again before
# the lease ends, and only the holder of the lease can settle it.  The end is a little random: of
# two that died together, each is then started without the other.
_LEASE = """
UPDATE {schema}.inbox
SET lease = %(lease)s, attempts = attempts + 1,
    claimed_at = now(), ready_at = due_at,
    -- Nobody has settled it since it was leased before.
    last_error = CASE WHEN lease IS NULL THEN last_error
        ELSE coalesce(last_error, %(unsettled)s) END,
    started_at = CASE WHEN %(external)s THEN clock_timestamp() ELSE started_at END,
    due_at = clock_timestamp() + ends.after, ring_at = clock_timestamp() + ends.after
FROM (SELECT %(seconds)s * (1 + random() / 2) * interval '1 second' AS after) AS ends
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
"""

# Whether the lease is ours still; no row if somebody has settled the delivery.
_HOLD_LEASE = """
SELECT lease IS NOT DISTINCT FROM %(lease)s FROM {schema}.inbox
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
FOR UPDATE
"""

# A call that was under way though its lease was over, and whose command was given up meanwhile: what
# became of it is told after all.  What is counted below it has been closed for it before.
_REOPEN = """
WITH reopened AS (
    UPDATE {schema}.inbox AS i SET state = 'pending', done_at = NULL
    WHERE i.message_id = %(id)s AND i.consumer = %(consumer)s AND i.state = 'revoked'
      AND i.started_at IS NOT NULL
      AND EXISTS (SELECT FROM {schema}.outbox AS o WHERE o.id = i.message_id AND o.given_up)
    RETURNING i.message_id
), counted AS (
    UPDATE {schema}.settling AS s SET open = s.open + 1, tells = s.tells OR %(tells)s
    FROM reopened WHERE s.root_id = reopened.message_id AND s.undo_id IS NULL
)
SELECT 1 FROM reopened
"""

_LAST_ERROR = """
SELECT last_error FROM {schema}.inbox WHERE message_id = %(id)s AND consumer = %(consumer)s
"""

_HOLD_LEASES = """
SELECT message_id, lease IS NOT DISTINCT FROM %(lease)s FROM {schema}.inbox
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s
  AND coalesce(state = 'pending', false)
ORDER BY message_id FOR UPDATE
"""

_HOLD_CLAIMED = """
SELECT 1 FROM {schema}.inbox
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
  AND lease IS NULL AND attempts = %(attempts)s
FOR UPDATE
"""

# Deliveries that are sent elsewhere together; it uses up no attempt.
_LEASE_ALL = """
UPDATE {schema}.inbox
SET lease = %(lease)s, claimed_at = now(), ready_at = due_at, started_at = clock_timestamp(),
    ring_at = clock_timestamp() + ends.after, due_at = clock_timestamp() + ends.after
FROM (SELECT %(seconds)s * (1 + random() / 2) * interval '1 second' AS after) AS ends
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s
  AND coalesce(state = 'pending', false)
"""

# What is being settled just now is locked, and needs it no more.  That a consumer is itself makes
# Postgres expect few records, and so go to their rows by primary key.
_RENEW = """
UPDATE {schema}.inbox AS i SET due_at = held.ends, ring_at = held.ends
FROM (
    SELECT found.*, clock_timestamp() + m.seconds * (1 + random() / 2) * interval '1 second' AS ends
    FROM json_to_recordset(%(leases)s::json) AS m (id uuid, consumer text, lease uuid, seconds float8)
    CROSS JOIN LATERAL (
        SELECT message_id, consumer FROM {schema}.inbox
        WHERE message_id = m.id AND consumer = m.consumer AND lease = m.lease
          AND coalesce(state = 'pending', false)
        FOR UPDATE SKIP LOCKED
    ) AS found
    WHERE m.consumer || '' = m.consumer
) AS held
WHERE i.message_id = held.message_id AND i.consumer = held.consumer
"""

# Commands of given-up steps.  Who fails in a run that is under way finds the mark, or is waited for.
_GIVE_UP = """
UPDATE {schema}.outbox SET given_up = true WHERE id = ANY (%(id)s::uuid[]) AND NOT given_up
"""

_GIVEN_UP = (
    "SELECT id FROM {schema}.outbox WHERE id = ANY (%(id)s::uuid[]) AND given_up ORDER BY id"
)

_LOOK_GIVEN_UP = """
SELECT o.id, o.given_up, i.started_at IS NOT NULL
FROM {schema}.outbox AS o JOIN {schema}.inbox AS i ON i.message_id = o.id
WHERE o.id = ANY (%(id)s::uuid[]) AND i.consumer = %(consumer)s
ORDER BY o.id FOR SHARE OF o
"""

# What was given up may have been forwarded: it is forwarded once more, to say so.
_RECALL = f"""
UPDATE {{schema}}.inbox SET due_at = {FORWARDING}, ring_at = now()
WHERE message_id = ANY (%(id)s::uuid[]) AND coalesce(state = 'pending', false)
  AND due_at IN ({FORWARDING}, {FORWARDED})
RETURNING consumer
"""

# Of those the ones of which no run is under way.  A handler that acts outside the database and was
# started may have had its effect.
_REVOKE = """
WITH taken AS (
    SELECT i.message_id, i.consumer
    FROM {schema}.inbox AS i JOIN {schema}.outbox AS o ON o.id = i.message_id
    WHERE o.id = ANY (%(root)s::uuid[])
      AND i.state IN ('pending', 'parked')
      AND (i.started_at IS NULL OR o.id <> ALL (%(unbegun)s::uuid[])
           AND (i.state = 'parked' OR i.lease IS NULL OR i.due_at <= now()))
    FOR UPDATE OF i SKIP LOCKED
)
UPDATE {schema}.inbox AS i
SET state = 'revoked', done_at = clock_timestamp(),
    last_error = concat_ws('; ', i.last_error, 'revoked: its step was given up')
FROM taken WHERE i.message_id = taken.message_id AND i.consumer = taken.consumer
RETURNING i.message_id, i.consumer, i.ordering_key, i.started_at IS NOT NULL
"""

# Deadlines that are not needed any more.  One that another hop has claimed is due: it is left to
# be consumed, and means nothing then.
_CLEAR = """
WITH cleared AS (
    SELECT message_id, consumer FROM {schema}.inbox
    WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
    FOR UPDATE SKIP LOCKED
)
UPDATE {schema}.inbox AS i SET state = 'revoked', done_at = clock_timestamp()
FROM cleared WHERE i.message_id = cleared.message_id AND i.consumer = cleared.consumer
"""

# The lease stays: of what is handled in another database it tells the parcel that parked it.
_RETRY_PARKED = """
UPDATE {schema}.inbox
SET state = 'pending', attempts = 0, rings = 0, yields = 0, done_at = NULL, due_at = now(),
    ring_at = clock_timestamp() + %(grace)s * interval '1 second'
WHERE message_id = ANY (%(id)s::uuid[])
  AND (state = 'parked' OR state = 'revoked' AND consumer = %(dropped_at)s)
  AND (%(of)s::text IS NULL OR consumer = %(of)s)
  AND NOT EXISTS (SELECT FROM {schema}.outbox AS o WHERE o.id = message_id AND o.given_up)
RETURNING message_id, consumer
"""

_DROP_PARKED = """
UPDATE {schema}.inbox
SET state = 'revoked', done_at = clock_timestamp(),
    last_error = concat_ws('; ', last_error, %(why)s::text)
WHERE message_id = ANY (%(id)s::uuid[]) AND state = 'parked'
  AND (%(of)s::text IS NULL OR consumer = %(of)s)
RETURNING message_id, consumer, ordering_key
"""

_INSERT_SAGAS = """
INSERT INTO {schema}.saga
    (id, name, version, key, status, direction, data, steps, course, consumed, reason, finished_at)
SELECT id, %(name)s, %(version)s, key, status, direction, data, steps, course, consumed, reason,
       CASE WHEN final THEN clock_timestamp() END
FROM json_to_recordset(%(sagas)s::json) AS m (id uuid, key text, status text, direction text,
        data jsonb, steps json, course jsonb, consumed int, reason text, final bool)
ORDER BY key  -- so that two callers who start the same keys cannot wait for each other
ON CONFLICT (name, key) DO NOTHING
RETURNING id
"""

_STARTED_BEFORE = """
SELECT m.item, s.id, o.payload = m.payload::jsonb, o.payload::text
FROM unnest(%(item)s::int[], %(key)s::text[], %(payload)s::text[]) AS m (item, key, payload)
JOIN {schema}.saga AS s ON s.name = %(name)s AND s.key = m.key
JOIN {schema}.outbox AS o ON o.saga_id = s.id AND o.kind = 'saga.started'
"""

# One saga, for an operator: locked, so that of two who act at once one comes second.
_LOCK_SAGA = """
SELECT id, name, version, status, direction, data::text, steps::text, course::text, consumed
FROM {schema}.saga WHERE id = %(id)s FOR UPDATE
"""

# What an operator did is consumed in the transaction that records it, as a start is.
_RECORD_ACT = """
WITH sent AS (
    INSERT INTO {schema}.outbox (id, kind, category, payload, saga_id, saga, root_id,
                                 recipient, awaits)
    VALUES (%(id)s, %(kind)s, 'act', %(payload)s::jsonb, %(saga_id)s, %(saga)s, %(id)s,
            %(consumer)s, '{{}}')
)
INSERT INTO {schema}.inbox
    (message_id, consumer, saga_id, state, due_at, ring_at, position, done_at)
VALUES (%(id)s, %(consumer)s, %(saga_id)s, 'done', now(), now(), %(position)s, clock_timestamp())
"""

_AUDIT = """
INSERT INTO {schema}.audit (id, actor, act, saga_id, message_id, reason, detail)
VALUES (%(id)s, %(actor)s, %(act)s, %(saga_id)s, %(message_id)s, %(reason)s, %(detail)s::jsonb)
"""

# What was committed but not handled: a doorbell was lost, or the worker that heard it died.
# Whatever a live hop holds is locked, and so not late.  Only the oldest of what is due is looked at:
# a hop takes it first, and in a backlog that is being handled none of it is late.  Nor is what waits
# for one before it.
_RING = """
WITH late AS MATERIALIZED (
    SELECT found.*, of.cap
    FROM unnest(%(consumers)s::text[], %(caps)s::float8[]) AS of (consumer, cap) CROSS JOIN LATERAL (
        SELECT message_id, consumer, due_at FROM {schema}.inbox AS i
        WHERE state = 'pending' AND due_at <= now() AND ring_at <= now()
          AND i.consumer = of.consumer AND {first_of_its_key} AND due_at <= coalesce((
            SELECT due_at FROM {schema}.inbox AS w
            WHERE w.consumer = of.consumer AND state = 'pending' AND due_at <= now()
            ORDER BY due_at OFFSET %(window)s LIMIT 1), now())
        ORDER BY due_at
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS found
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY consumer ORDER BY due_at) AS place FROM late
)
UPDATE {schema}.inbox AS i
SET rings = i.rings + (late.place <= %(head)s)::int,
    rung_at = CASE WHEN late.place > %(head)s OR i.rung_at >= i.due_at THEN i.rung_at
        ELSE clock_timestamp() END,
    ring_at = clock_timestamp()
        + least(%(grace)s * power(2, least(i.rings, 16)), late.cap) * interval '1 second'
FROM placed AS late
WHERE i.message_id = late.message_id AND i.consumer = late.consumer AND i.state = 'pending'
RETURNING i.consumer
""".replace("{first_of_its_key}", causal_sql.FIRST_OF_ITS_KEY)

# Of these consumers those that have something to do now, which another may be doing.
_DUE = """
SELECT of.consumer FROM unnest(%(consumers)s::text[]) AS of (consumer)
WHERE EXISTS (
    SELECT FROM {schema}.inbox AS i
    WHERE i.consumer = of.consumer AND state = 'pending' AND due_at <= now()
      AND {first_of_its_key})
""".replace("{first_of_its_key}", causal_sql.FIRST_OF_ITS_KEY)

# Sagas, to consume what is being sent to them; those that another hop holds are left out.  Of an array
# Postgres would guess how long it is, and plan anew each time.
_HOLD_SAGAS = """
SELECT s.id, s.version, s.status, s.direction, s.data::text, s.steps::text, s.course::text,
    s.consumed
FROM (SELECT DISTINCT id FROM json_to_recordset(%(ids)s::json) AS m (id uuid) ORDER BY id) AS d
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.saga WHERE id = d.id FOR UPDATE SKIP LOCKED
) AS s
"""

_IN_STATES = """
SELECT message_id FROM {schema}.inbox
WHERE message_id = ANY (%(id)s::uuid[]) AND state = ANY (%(state)s)
"""

_EXISTING_SAGAS = """
SELECT id FROM {schema}.saga WHERE id = ANY (%(id)s::uuid[])
"""

# Every message that sagas consumed, in the order in which each consumed them.
_HISTORY = f"""
SELECT {hop_sql.CLAIMED},
    s.name, s.version, s.status, s.direction, s.data::text, s.steps::text, s.course::text,
    s.consumed
FROM {{schema}}.saga AS s
JOIN {{schema}}.outbox AS o ON o.saga_id = s.id
JOIN {{schema}}.inbox AS i ON i.message_id = o.id AND i.consumer = 'saga.' || s.name
WHERE i.position IS NOT NULL AND (%(id)s::uuid[] IS NULL OR s.id = ANY (%(id)s::uuid[]))
ORDER BY s.id, i.position
"""

# Held until the commit: so parcels get their times in the order of commits.
_TAKE_TURN = "SELECT pg_advisory_xact_lock(%(lock)s)"

_SUBSCRIBE = """
INSERT INTO {schema}.subscription AS s (kind, consumer, ordered_by)
SELECT * FROM unnest(%(kind)s::text[], %(consumer)s::text[], %(ordered_by)s::text[])
ORDER BY 1, 2  -- so that workers that boot at once cannot wait for each other
ON CONFLICT (kind, consumer) DO UPDATE SET ordered_by = excluded.ordered_by
WHERE s.ordered_by IS DISTINCT FROM excluded.ordered_by
"""


def with_messages(statement: str) -> str:
    """Return a statement with the columns of a claimed delivery put in."""
    return statement.replace("{claimed}", hop_sql.CLAIMED).replace("{message}", hop_sql.MESSAGE)


@dataclass(frozen=True, slots=True)
class Statements:
    """The statements for one schema."""

    claim: str = hop_sql.CLAIM
    claim_sagas: str = hop_sql.CLAIM_SAGAS
    send: str = hop_sql.SEND
    repeat: str = hop_sql.REPEAT
    sent_before: str = hop_sql.SENT_BEFORE
    holder: str = hop_sql.HOLDER
    settle: str = hop_sql.SETTLE
    finish: str = hop_sql.FINISH
    finish_sagas: str = hop_sql.FINISH_SAGAS
    lease: str = _LEASE
    give_up: str = _GIVE_UP
    look_given_up: str = _LOOK_GIVEN_UP
    given_up: str = _GIVEN_UP
    hold_lease: str = _HOLD_LEASE
    reopen: str = _REOPEN
    hold_leases: str = _HOLD_LEASES
    hold_claimed: str = _HOLD_CLAIMED
    lease_all: str = _LEASE_ALL
    renew: str = _RENEW
    last_error: str = _LAST_ERROR
    revoke: str = _REVOKE
    clear: str = _CLEAR
    retry_parked: str = _RETRY_PARKED
    drop_parked: str = _DROP_PARKED
    lock_saga: str = _LOCK_SAGA
    hold_sagas: str = _HOLD_SAGAS
    record_act: str = _RECORD_ACT
    audit: str = _AUDIT
    save_sagas: str = hop_sql.SAVE_SAGAS
    insert_sagas: str = _INSERT_SAGAS
    started_before: str = _STARTED_BEFORE
    in_states: str = _IN_STATES
    existing_sagas: str = _EXISTING_SAGAS
    history: str = _HISTORY
    ring: str = _RING
    due: str = _DUE
    subscribe: str = _SUBSCRIBE
    wake: str = ordering_sql.WAKE
    held_up: str = ordering_sql.HELD_UP
    count: str = causal_sql.COUNT
    counted: str = causal_sql.COUNTED
    undone: str = causal_sql.UNDONE
    mark_undone: str = causal_sql.MARK_UNDONE
    begin_undo: str = causal_sql.BEGIN_UNDO
    take_back: str = causal_sql.TAKE_BACK
    order_undo: str = causal_sql.ORDER_UNDO
    recount: str = causal_sql.RECOUNT
    recall: str = _RECALL
    take_turn: str = _TAKE_TURN


S = TypeVar("S", bound=Statements)


@cache
def statements(schema: str) -> Statements:
    """Return the statements for tables in this schema.

    Raises `DefinitionError` for a name that is not a plain lower-case identifier.
    """
    return rendered(Statements, schema)


def rendered(kind: type[S], schema: str) -> S:
    """Return statements of this kind with the schema's name put in.

    It is the only text that ever becomes part of a statement.  Raises as `statements` does.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]{0,62}", schema):
        raise DefinitionError(
            f"schema {schema!r} must be a lower-case identifier of at most 63 characters"
        )
    return kind(**{f.name: f.default.format(schema=schema) for f in fields(kind)})  # type: ignore[union-attr]
