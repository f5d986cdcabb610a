"""SQL of what operators do with sagas and parked deliveries, and of the audit that it leaves."""

from internals.store.message_columns import insert_messages

RETRY_PARKED = """
UPDATE {schema}.inbox
SET state = 'pending', outcome = 'retried', attempts = 0, rings = 0, yields = 0, done_at = NULL,
    wait_reason = NULL, due_at = now(),
    ring_at = clock_timestamp() + %(grace)s * interval '1 second'
WHERE message_id = ANY (%(id)s::uuid[])
  AND (state = 'parked' OR state = 'revoked' AND consumer = %(dropped_at)s)
  AND (%(of)s::text IS NULL OR consumer = %(of)s)
  AND NOT EXISTS (SELECT FROM {schema}.outbox AS o WHERE o.id = message_id AND o.given_up)
RETURNING message_id, consumer
"""

DROP_PARKED = """
UPDATE {schema}.inbox
SET state = 'revoked', outcome = %(outcome)s, done_at = clock_timestamp(),
    last_error = concat_ws('; ', last_error, %(why)s::text)
WHERE message_id = ANY (%(id)s::uuid[]) AND state = 'parked'
  AND (%(of)s::text IS NULL OR consumer = %(of)s)
RETURNING message_id, consumer, ordering_key
"""

# One saga, for an operator: locked, so that of two who act at once one comes second.
LOCK_SAGA = """
SELECT id, name, version, status, direction, data::text, steps::text, course::text, consumed
FROM {schema}.saga WHERE id = %(id)s FOR UPDATE
"""

# What an operator did is consumed in the transaction that records it, as a start is.
_ACT = insert_messages(
    {
        "id": "%(id)s",
        "kind": "%(kind)s",
        "category": "'act'",
        "payload": "%(payload)s::jsonb",
        "saga_id": "%(saga_id)s",
        "saga": "%(saga)s",
        "root_id": "%(id)s",
        "recipient": "%(consumer)s",
        "awaits": "'{{}}'",
    },
    "",
)
RECORD_ACT = f"""
WITH sent AS (
    {_ACT})
INSERT INTO {{schema}}.inbox
    (message_id, consumer, saga_id, state, outcome, due_at, ring_at, position, done_at)
VALUES (%(id)s, %(consumer)s, %(saga_id)s, 'done', 'handled', now(), now(), %(position)s,
        clock_timestamp())
"""

AUDIT = """
INSERT INTO {schema}.audit (id, actor, act, saga_id, message_id, reason, detail)
VALUES (%(id)s, %(actor)s, %(act)s, %(saga_id)s, %(message_id)s, %(reason)s, %(detail)s::jsonb)
"""
