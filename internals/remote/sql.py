"""The SQL of contexts that have a database of their own.

At home such a delivery stays pending until its parcel is back.  While it is being forwarded it is leased:
when the lease is over it is due again, for any worker.  When it has arrived no time is known at which
it is due.  It is marked as started, since it may have been.  The parcel that parked it is remembered with
it: an operator may have it delivered again, and that parcel may come again.
"""

from internals.store.message_columns import BATCH_COLUMNS, FROM_BATCH, insert_messages
from internals.store.sql.causal import FIRST_OF_ITS_KEY
from internals.store.sql.hop import PARCEL

# What is due, and what somebody was forwarding who did not live to say that it arrived.
TO_FORWARD = f"""
WITH due AS MATERIALIZED (
    SELECT message_id, attempts, rings, due_at, ordering_key, yields, parcel_id,
        started_at, wait_reason IS NOT NULL AS again
    FROM {{schema}}.inbox AS i
    WHERE consumer = %(consumer)s AND state = 'pending' AND due_at <= now() AND {FIRST_OF_ITS_KEY}
    ORDER BY due_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)
SELECT {{claimed}}, i.parcel_id, i.started_at IS NOT NULL, i.again
FROM due AS i CROSS JOIN LATERAL {{message}} AS o
ORDER BY i.due_at, o.seq
"""

# Committed before the other database is told: what it may have is never taken for unstarted.
BEGIN_FORWARDING = """
UPDATE {schema}.inbox
SET wait_reason = 'forwarding', due_at = now() + %(seconds)s * interval '1 second',
    ring_at = now() + %(seconds)s * interval '1 second',
    ready_at = CASE WHEN wait_reason IS NULL THEN due_at ELSE ready_at END,
    claimed_at = CASE WHEN wait_reason IS NULL THEN now() ELSE claimed_at END,
    lease = %(lease)s, started_at = coalesce(started_at, clock_timestamp())
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
"""

# In order, so that two who forward the same cannot wait for each other.
_INSERT = insert_messages(
    {**FROM_BATCH, "given_up": "given_up"}, "FROM m ORDER BY id ON CONFLICT (id) DO NOTHING"
)

# In the other database.  What is there stays as it is, with two exceptions.  What was parked, and was
# delivered again at home since its last parcel arrived, is run again, once that parcel is done with.
# And of what is over there and not at home, which was restored from a backup then, the parcel is
# offered anew.  That a consumer is itself makes Postgres expect few of either, as in `RENEW`.
FORWARD = f"""
WITH m AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(messages)s::json)
        AS m ({BATCH_COLUMNS}, given_up bool, applied uuid)
), sent AS (
    {_INSERT}
), delivered AS (
    INSERT INTO {{schema}}.inbox (message_id, consumer, saga_id, due_at, ring_at)
    SELECT id, %(consumer)s, saga_id, now(), clock_timestamp() + %(grace)s * interval '1 second'
    FROM m ORDER BY id
    ON CONFLICT (message_id, consumer) DO NOTHING
), over AS MATERIALIZED (
    SELECT m.id, %(consumer)s::text AS consumer, last.parcel, last.consumer AS parcels, last.done,
        m.applied IS NOT DISTINCT FROM last.parcel AS known
    FROM m CROSS JOIN LATERAL (
        SELECT state FROM {{schema}}.inbox
        WHERE message_id = m.id AND consumer = %(consumer)s OFFSET 0
    ) AS i CROSS JOIN LATERAL (
        SELECT o.id AS parcel, p.consumer, p.state = 'done' AS done FROM {{schema}}.outbox AS o
        CROSS JOIN LATERAL (
            SELECT consumer, state FROM {{schema}}.inbox
            WHERE message_id = o.id AND consumer = %(parcels)s OFFSET 0
        ) AS p
        WHERE o.causation_id = m.id AND o.kind = '{PARCEL}' AND o.sender = %(consumer)s
        ORDER BY o.seq DESC LIMIT 1
    ) AS last
    WHERE i.state IN ('done', 'parked')
), again AS (
    UPDATE {{schema}}.inbox AS i
    SET state = 'pending', outcome = 'retried', attempts = 0, rings = 0, done_at = NULL,
        due_at = now(),
        ring_at = clock_timestamp() + %(grace)s * interval '1 second'
    FROM over
    WHERE i.message_id = over.id AND i.consumer = over.consumer AND coalesce(i.state = 'parked', false)
      AND over.known AND over.done AND over.consumer || '' = over.consumer
), offered AS (
    UPDATE {{schema}}.inbox AS i
    SET state = 'pending', outcome = 'retried', rings = 0, done_at = NULL, due_at = now(),
        ring_at = clock_timestamp() + %(grace)s * interval '1 second'
    FROM over
    WHERE i.message_id = over.parcel AND i.consumer = over.parcels AND coalesce(i.state = 'done', false)
      AND NOT over.known AND over.parcels || '' = over.parcels
)
SELECT id FROM over WHERE known AND NOT done
UNION ALL
-- Nothing is ever on its way in a database that is not the sagas' own.
SELECT NULL FROM (SELECT id FROM m LIMIT 1) AS one CROSS JOIN LATERAL (
    SELECT FROM {{schema}}.inbox
    WHERE message_id = one.id AND consumer = %(consumer)s AND wait_reason IS NOT NULL OFFSET 0
) AS at_home
"""

# In the other database: what is given up, and not being handled, need not wait for its next attempt.
HASTEN = """
UPDATE {schema}.inbox AS i
SET due_at = now(), ring_at = clock_timestamp() + %(grace)s * interval '1 second'
FROM (
    SELECT message_id, consumer FROM {schema}.inbox
    WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s
      AND coalesce(state = 'pending', false) AND (lease IS NULL OR due_at <= now())
    FOR UPDATE SKIP LOCKED
) AS idle
WHERE i.message_id = idle.message_id AND i.consumer = idle.consumer
"""

# If whoever says so has the lease still.
CONFIRM = """
UPDATE {schema}.inbox
SET wait_reason = 'forwarded', due_at = NULL,
    outcome = nullif(outcome, 'not_forwarded'),
    last_error = CASE WHEN outcome = 'not_forwarded' THEN NULL ELSE last_error END,
    ring_at = clock_timestamp() + %(again)s * interval '1 second'
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
  AND wait_reason = 'forwarding' AND lease = %(lease)s
"""

# The oldest of what is due, of those that were not forwarded and do not say yet why: so a look costs the
# same however many there are.
UNEXPLAINED = """
SELECT message_id FROM (
    SELECT message_id, wait_reason, outcome FROM {schema}.inbox
    WHERE consumer = %(consumer)s AND state = 'pending' AND due_at <= now()
    ORDER BY due_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
) AS oldest
WHERE wait_reason IS NULL AND outcome IS DISTINCT FROM 'not_forwarded'
"""

# While its database is known to be away nobody tries, and it stays as it is but for the reason.
EXPLAIN = """
UPDATE {schema}.inbox SET outcome = 'not_forwarded', last_error = %(error)s
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s
  AND coalesce(state = 'pending', false)
"""

# As if nobody had touched it.
GIVE_BACK = """
UPDATE {schema}.inbox
SET wait_reason = NULL, due_at = again.at, ring_at = again.at, started_at = NULL, lease = NULL,
    outcome = CASE WHEN %(error)s::text IS NULL THEN outcome ELSE 'not_forwarded' END,
    last_error = coalesce(%(error)s, last_error)
FROM (SELECT clock_timestamp() + %(delay)s * interval '1 second' AS at) AS again
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
  AND wait_reason = 'forwarding' AND lease = %(lease)s
"""

# It may have arrived.
FORWARD_AGAIN = """
UPDATE {schema}.inbox
SET due_at = again.at, ring_at = again.at,
    outcome = CASE WHEN %(error)s::text IS NULL THEN outcome ELSE 'not_forwarded' END,
    last_error = coalesce(%(error)s, last_error)
FROM (SELECT clock_timestamp() + %(delay)s * interval '1 second' AS at) AS again
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
  AND wait_reason = 'forwarding' AND lease = %(lease)s
"""

# What has lain there for long is offered again, in case that database was restored from a backup that
# does not have it.
FORWARD_ANEW = """
UPDATE {schema}.inbox
SET wait_reason = 'forwarding', due_at = now(), ring_at = now(), lease = gen_random_uuid()
WHERE (message_id, consumer) IN (
    SELECT message_id, consumer FROM {schema}.inbox
    WHERE consumer = ANY (%(consumers)s) AND state = 'pending' AND due_at IS NULL
      AND wait_reason = 'forwarded' AND ring_at <= now()
    LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
RETURNING consumer
"""

# In the other database: of these parked deliveries those that may have had an effect outside.
STARTED = """
SELECT message_id FROM {schema}.inbox
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND started_at IS NOT NULL
"""

# In order, so that two who apply parcels cannot wait for each other.
AWAITED = """
SELECT i.message_id, i.ordering_key, i.parcel_id, o.root_id, o.awaits
FROM (SELECT DISTINCT id FROM unnest(%(id)s::uuid[]) AS ids (id) ORDER BY id) AS m
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.inbox
    WHERE message_id = m.id AND consumer = %(consumer)s AND coalesce(state = 'pending', false) FOR UPDATE
) AS i CROSS JOIN LATERAL {message} AS o
"""

AT_HOME = """
SELECT {claimed} FROM {schema}.inbox AS i CROSS JOIN LATERAL {message} AS o
WHERE i.message_id = %(id)s AND i.consumer = %(consumer)s
"""

# What is tried again there.
NOTE = """
UPDATE {schema}.inbox AS i
SET attempts = m.attempts, outcome = m.outcome, last_error = m.error, took = m.took
FROM json_to_recordset(%(notes)s::json)
    AS m (id uuid, consumer text, attempts int, outcome text, error text, took float4)
WHERE i.message_id = m.id AND i.consumer = m.consumer AND m.consumer || '' = %(consumer)s
  AND coalesce(i.state = 'pending', false)
"""

# A handler that acts within its database has left nothing there where it is parked.
UNTOUCHED = """
UPDATE {schema}.inbox SET started_at = NULL
WHERE message_id = ANY (%(id)s::uuid[]) AND consumer = %(consumer)s AND coalesce(state = 'pending', false)
"""

# What is parked may be delivered again, so the parcel that was applied is remembered.
REMEMBER = """
UPDATE {schema}.inbox AS i SET parcel_id = m.parcel
FROM json_to_recordset(%(parked)s::json) AS m (id uuid, consumer text, parcel uuid)
WHERE i.message_id = m.id AND i.consumer = m.consumer AND m.consumer || '' = %(consumer)s
  AND coalesce(i.state = 'parked', false)
"""
