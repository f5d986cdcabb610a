"""The SQL of deliveries that are counted, undone and ordered.

None of it runs for messages that nobody counts and subscriptions that have no order.
"""

from internals.store.message_columns import insert_messages

#: Deliveries that hold up those behind them.  The index on them has these words too.
OPEN = "('pending', 'parked')"

#: Whether nobody is at a row `i`, so that it may be taken back: it runs under no lease, and is not,
#: and was not about to be, in its context's own database.
IDLE = """(i.started_at IS NULL OR i.state = 'parked' OR i.lease IS NULL
    OR i.due_at <= now() AND i.wait_reason IS NULL)"""

#: Whether a row `i` of the inbox is the first of its key, or has none.  A publisher holds its keys'
#: locks until its commit, so whatever has a lower number is visible before what has a higher one.
FIRST_OF_ITS_KEY = f"""(i.ordering_key IS NULL OR NOT EXISTS (
    SELECT FROM {{schema}}.inbox AS e WHERE e.ordering_key = i.ordering_key
    AND e.state IN {OPEN} AND e.ordering_no < i.ordering_no))"""

# A saga is told once that nothing is open any more, by whoever closed the last delivery.
_TELL = insert_messages(
    {
        "id": "md5('settled ' || root_id)::uuid",
        "kind": "'saga.settled'",
        "category": "'reply'",
        "payload": "'{{}}'",
        "saga_id": "saga_id",
        "saga": "saga",
        "causation_id": "cause",
        "root_id": "root_id",
        "recipient": "'saga.' || saga",
        "sender": "%(consumer)s",
        "awaits": "'{{}}'",
    },
    "FROM changed WHERE open = 0 AND tells AND undo_id IS NULL ON CONFLICT (id) DO NOTHING",
)
_TELLING = f"""
told AS (
    {_TELL}
    RETURNING id, saga_id, recipient
), delivered AS (
    INSERT INTO {{schema}}.inbox (message_id, consumer, saga_id, due_at, ring_at)
    SELECT id, recipient, saga_id, now(),
           clock_timestamp() + %(grace)s * interval '1 second' FROM told
    RETURNING consumer
)
"""

# The rows are locked in order, so that two hops below the same commands cannot wait for each other.
# What is being undone is counted anew by whoever gets its row back from here.
COUNT = f"""
WITH opened AS (
    SELECT o.root_id, o.saga_id, o.saga, 'saga.settled' = ANY (o.awaits) AS tells, count(*) AS n
    FROM (SELECT DISTINCT id FROM unnest(%(sent)s::uuid[]) AS ids (id)) AS m
    CROSS JOIN LATERAL (SELECT * FROM {{schema}}.outbox WHERE id = m.id OFFSET 0) AS o
    CROSS JOIN LATERAL (SELECT consumer FROM {{schema}}.inbox WHERE message_id = m.id OFFSET 0) AS i
    WHERE i.consumer NOT LIKE 'saga.%%'
    GROUP BY 1, 2, 3, 4
), begun AS (
    INSERT INTO {{schema}}.settling (root_id, saga_id, saga, open, tells)
    SELECT root_id, saga_id, saga, n, tells FROM opened WHERE root_id = ANY (%(sent)s::uuid[])
    ON CONFLICT (root_id) DO NOTHING
), closed AS (
    SELECT * FROM json_to_recordset(%(closed)s::json)
        AS c (root uuid, cause uuid, n int, quiet bool, place int)
), change AS (
    SELECT root_id, sum(n) AS n, (array_agg(cause ORDER BY place DESC NULLS LAST))[1] AS cause,
           bool_or(quiet) AS quiet
    FROM (
        SELECT root_id, n, NULL::uuid AS cause, false AS quiet, NULL::int AS place FROM opened
        WHERE root_id <> ALL (%(sent)s::uuid[])
        UNION ALL
        SELECT root, -n, cause, coalesce(quiet, false), place FROM closed
    ) AS each GROUP BY root_id
), held AS MATERIALIZED (
    SELECT s.root_id FROM (
        SELECT root_id, set_config(
            'lock_timeout', coalesce(%(key_wait)s, current_setting('lock_timeout')), true)
        FROM change ORDER BY root_id
    ) AS c
    CROSS JOIN LATERAL (
        SELECT root_id FROM {{schema}}.settling WHERE root_id = c.root_id FOR UPDATE) AS s
), changed AS (
    UPDATE {{schema}}.settling AS s
    SET open = CASE WHEN s.undo_id IS NULL THEN s.open + change.n ELSE s.open END,
        tells = s.tells AND NOT change.quiet
    FROM change JOIN held USING (root_id) WHERE s.root_id = change.root_id
    RETURNING s.root_id, s.saga_id, s.saga, s.open, s.tells, s.undo_id, change.cause
), {_TELLING}
SELECT consumer, NULL::uuid AS undo_id, NULL::uuid AS root_id, NULL::uuid AS saga_id, NULL AS saga,
    NULL::uuid AS cause
FROM delivered
UNION ALL
SELECT NULL, undo_id, root_id, saga_id, saga, cause FROM changed WHERE undo_id IS NOT NULL
"""

# Of these messages those that are counted, for whoever closes deliveries by their ids.
COUNTED = """
SELECT id, root_id FROM {schema}.outbox
WHERE id = ANY (%(id)s::uuid[]) AND awaits && '{{saga.settled,saga.counted}}'
"""

UNDONE = """
SELECT root_id FROM {schema}.settling
WHERE root_id = ANY (%(root)s::uuid[]) AND undo_id IS NOT NULL
"""

# From now on whatever happens below these commands is undone.
MARK_UNDONE = """
INSERT INTO {schema}.settling AS s (root_id, saga_id, saga, open, tells, undo_id)
SELECT root, %(saga_id)s, %(saga)s, 0, false, %(undo)s FROM unnest(%(root)s::uuid[]) AS r (root)
ORDER BY root
ON CONFLICT (root_id) DO UPDATE
SET open = CASE WHEN s.undo_id = excluded.undo_id THEN s.open ELSE 0 END,
    undo_id = excluded.undo_id
"""

# Its own count: orders to undo, what they set off, and what is open still below the commands.
BEGIN_UNDO = """
INSERT INTO {schema}.settling AS s (root_id, saga_id, saga, open, tells)
VALUES (%(undo)s, %(saga_id)s, %(saga)s, 0, true)
ON CONFLICT (root_id) DO UPDATE SET open = s.open
"""

_BELOW = """
below AS (
    SELECT id, root_id FROM {schema}.outbox WHERE id = ANY (%(root)s::uuid[])
    UNION ALL
    SELECT o.id, o.root_id FROM below JOIN {schema}.outbox AS o ON o.causation_id = below.id
    WHERE o.root_id = ANY (%(root)s::uuid[])
)
"""

# What has not run yet need not: it is taken back.  What another hop has locked, or a handler that
# acts outside is at, is not: whoever ends it finds that it is to be undone.
TAKE_BACK = f"""
WITH RECURSIVE {_BELOW}, taken AS (
    SELECT i.message_id, i.consumer FROM {{schema}}.inbox AS i
    WHERE i.message_id IN (SELECT id FROM below) AND i.state IN {OPEN}
      AND i.consumer NOT LIKE 'saga.%%'
      AND {IDLE}
    FOR UPDATE SKIP LOCKED
)
UPDATE {{schema}}.inbox AS i
SET state = 'revoked', outcome = 'undone', done_at = clock_timestamp(), lease = NULL,
    last_error = concat_ws('; ', i.last_error, 'revoked: its step was undone')
FROM taken WHERE i.message_id = taken.message_id AND i.consumer = taken.consumer
RETURNING i.ordering_key
"""

# One order to undo for each handler that ran, or may have had an effect outside: rejected or failed
# ones left nothing.  The last to be done gets the lowest number, and so is undone first; one that
# comes late is undone before what is left.  Runs that meant the same are undone under one key.
_ORDER = insert_messages(
    {
        "id": "md5('undo ' || message_id || ' ' || consumer)::uuid",
        "kind": "'saga.undo'",
        "category": "'command'",
        "payload": "jsonb_build_object("
        "'message_id', message_id, 'message_kind', kind, 'payload', payload)",
        "saga_id": "%(saga_id)s",
        "saga": "%(saga)s",
        "causation_id": "%(cause)s",
        "root_id": "%(undo)s",
        "recipient": "consumer",
        "sender": "'saga.' || %(saga)s::text",
        "awaits": "'{{saga.counted}}'",
        "intent_id": "CASE WHEN intent <> message_id "
        "THEN md5('undo ' || intent || ' ' || consumer)::uuid END",
        "undoes": "consumer || ':' || intent",
    },
    "FROM ran ORDER BY done_at, seq ON CONFLICT (id) DO NOTHING",
)
ORDER_UNDO = f"""
WITH RECURSIVE {_BELOW}, ran AS (
    SELECT i.message_id, i.consumer, i.done_at, o.seq, o.kind, o.payload,
        coalesce(o.intent_id, o.id) AS intent
    FROM below JOIN {{schema}}.inbox AS i ON i.message_id = below.id
    JOIN {{schema}}.outbox AS o ON o.id = below.id
    WHERE i.consumer NOT LIKE 'saga.%%'
      AND (i.state = 'done' AND i.outcome IN ('handled', 'overran')
           OR i.state = 'revoked' AND i.started_at IS NOT NULL)
), sent AS (
    {_ORDER}
    RETURNING id, seq, recipient
)
INSERT INTO {{schema}}.inbox
    (message_id, consumer, saga_id, wait_reason, ring_at, ordering_key, ordering_no)
SELECT id, recipient, %(saga_id)s, 'ordering', now(), %(key)s, -seq FROM sent
RETURNING message_id
"""

RECOUNT = f"""
WITH RECURSIVE {_BELOW}, still AS (
    SELECT s.root_id, s.open AS before, (
        SELECT count(*) FROM below JOIN {{schema}}.inbox AS i ON i.message_id = below.id
        WHERE below.root_id = s.root_id AND i.state IN {OPEN} AND i.consumer NOT LIKE 'saga.%%'
    ) AS n
    FROM {{schema}}.settling AS s WHERE s.root_id = ANY (%(root)s::uuid[])
), kept AS (
    UPDATE {{schema}}.settling AS s SET open = still.n FROM still WHERE s.root_id = still.root_id
), changed AS (
    UPDATE {{schema}}.settling AS s
    SET open = s.open + %(added)s + (SELECT coalesce(sum(n - before), 0) FROM still)
    WHERE s.root_id = %(undo)s
    RETURNING s.root_id, s.saga_id, s.saga, s.open, s.tells, s.undo_id, %(cause)s::uuid AS cause
), {_TELLING}
SELECT consumer FROM delivered
"""
