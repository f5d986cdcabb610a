"""SQL of what is given up: commands of steps, their deliveries, and deadlines."""

from internals.store.sql.causal import IDLE

# Commands of given-up steps.  Who fails in a run that is under way finds the mark, or is waited for.
GIVE_UP = """
UPDATE {schema}.outbox SET given_up = true WHERE id = ANY (%(id)s::uuid[]) AND NOT given_up
"""

GIVEN_UP = "SELECT id FROM {schema}.outbox WHERE id = ANY (%(id)s::uuid[]) AND given_up ORDER BY id"

LOOK_GIVEN_UP = """
SELECT o.id, o.given_up, i.started_at IS NOT NULL
FROM {schema}.outbox AS o JOIN {schema}.inbox AS i ON i.message_id = o.id
WHERE o.id = ANY (%(id)s::uuid[]) AND i.consumer = %(consumer)s
ORDER BY o.id FOR SHARE OF o
"""

# What was given up may have been forwarded: it is forwarded once more, to say so.  Whoever is at it has
# its lease no more.
RECALL = """
UPDATE {schema}.inbox
SET wait_reason = 'forwarding', due_at = now(), ring_at = now(), lease = gen_random_uuid()
WHERE message_id = ANY (%(id)s::uuid[]) AND coalesce(state = 'pending', false)
  AND wait_reason IN ('forwarding', 'forwarded')
RETURNING consumer
"""

# Deliveries of given-up commands that no run has under way.  A handler that acts outside the database and was
# started may have had its effect.
REVOKE = f"""
WITH taken AS (
    SELECT i.message_id, i.consumer
    FROM {{schema}}.inbox AS i JOIN {{schema}}.outbox AS o ON o.id = i.message_id
    WHERE o.id = ANY (%(root)s::uuid[])
      AND i.state IN ('pending', 'parked')
      AND {IDLE} AND (i.started_at IS NULL OR o.id <> ALL (%(unbegun)s::uuid[]))
    FOR UPDATE OF i SKIP LOCKED
)
UPDATE {{schema}}.inbox AS i
SET state = 'revoked', outcome = 'given_up', done_at = clock_timestamp(),
    last_error = concat_ws('; ', i.last_error, 'revoked: its step was given up')
FROM taken WHERE i.message_id = taken.message_id AND i.consumer = taken.consumer
RETURNING i.message_id, i.consumer, i.ordering_key, i.started_at IS NOT NULL
"""

# Deadlines that are not needed any more.  One that another hop has claimed is due: it is left to
# be consumed, and means nothing then.
CLEAR = """
WITH cleared AS (
    SELECT message_id, consumer FROM {schema}.inbox
    WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
    FOR UPDATE SKIP LOCKED
)
UPDATE {schema}.inbox AS i
SET state = 'revoked', outcome = 'not_needed', done_at = clock_timestamp()
FROM cleared WHERE i.message_id = cleared.message_id AND i.consumer = cleared.consumer
"""
