"""SQL of leases: deliveries that are handled outside the transaction that claimed them."""

# A delivery that is handled outside the transaction that claimed it.  It is not due again before
# the lease ends, and only the holder of the lease can settle it.  The end is a little random: of
# two that died together, each is then started without the other.
LEASE = """
UPDATE {schema}.inbox
SET lease = %(lease)s, attempts = attempts + 1,
    claimed_at = now(), ready_at = due_at,
    -- Nobody has settled it since it was leased before.
    outcome = CASE WHEN lease IS NULL THEN outcome ELSE coalesce(outcome, 'unsettled') END,
    last_error = CASE WHEN lease IS NULL THEN last_error
        ELSE coalesce(last_error, %(unsettled)s) END,
    started_at = CASE WHEN %(external)s THEN clock_timestamp() ELSE started_at END,
    due_at = clock_timestamp() + ends.after, ring_at = clock_timestamp() + ends.after
FROM (SELECT %(seconds)s * (1 + random() / 2) * interval '1 second' AS after) AS ends
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
"""

# Whether the lease is ours still; no row if somebody has settled the delivery.
HOLD_LEASE = """
SELECT lease IS NOT DISTINCT FROM %(lease)s FROM {schema}.inbox
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
FOR UPDATE
"""

HOLD_LEASES = """
SELECT message_id, lease IS NOT DISTINCT FROM %(lease)s FROM {schema}.inbox
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s
  AND coalesce(state = 'pending', false)
ORDER BY message_id FOR UPDATE
"""

HOLD_CLAIMED = """
SELECT 1 FROM {schema}.inbox
WHERE message_id = %(id)s AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
  AND lease IS NULL AND attempts = %(attempts)s
FOR UPDATE
"""

# Deliveries that are sent elsewhere together; it uses up no attempt.
LEASE_ALL = """
UPDATE {schema}.inbox
SET lease = %(lease)s, claimed_at = now(), ready_at = due_at, started_at = clock_timestamp(),
    ring_at = clock_timestamp() + ends.after, due_at = clock_timestamp() + ends.after
FROM (SELECT %(seconds)s * (1 + random() / 2) * interval '1 second' AS after) AS ends
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s
  AND coalesce(state = 'pending', false)
"""

# What is being settled just now is locked, and needs it no more.  That a consumer is itself makes
# Postgres expect few records, and so go to their rows by primary key.
RENEW = """
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

# A call that was under way though its lease was over, and whose command was given up meanwhile: what
# became of it is told after all.  What is counted below it has been closed for it before.
REOPEN = """
WITH reopened AS (
    UPDATE {schema}.inbox AS i SET state = 'pending', outcome = NULL, done_at = NULL
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

# That nobody settled it says nothing of what went wrong.
LAST_ERROR = """
SELECT last_error FROM {schema}.inbox
WHERE message_id = %(id)s AND consumer = %(consumer)s AND outcome <> 'unsettled'
"""
