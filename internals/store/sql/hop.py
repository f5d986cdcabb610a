"""The SQL that each hop runs: claim, settle, save and send, for a batch as for one delivery.

Placeholders are those of `internals.store.sql`.
"""

from internals.store.message_columns import BATCH_COLUMNS, FROM_BATCH, SELECTED, insert_messages
from internals.store.sql.causal import FIRST_OF_ITS_KEY
from internals.store.sql.ordering import LOCKED, LOCKING

#: The kind of what a context's own database sends home.
PARCEL = "saga.parcel"

CLAIMED = f"""
    {SELECTED},
    i.attempts, i.rings, i.ordering_key, i.yields,
    CASE WHEN o.given_up THEN i.started_at IS NOT NULL END"""

# A subquery that is not flattened is run once for each row, by primary key: of a table that has just
# begun to grow Postgres would read all, and go on to do so.
MESSAGE = "(SELECT * FROM {schema}.outbox WHERE id = i.message_id OFFSET 0)"

# Two batches of one context would lock the same hot rows of the user's tables in different
# orders, and Postgres takes a second to see a deadlock.  So only the holder of the context's
# advisory lock takes a batch.  Whoever else comes takes none and comes again, since a hop for one
# delivery costs nearly as much as one for many; or, where handlers are slow, one delivery, which can
# wait for a batch but never be part of a cycle with it.  Nothing correct depends on the lock.
CLAIM = f"""
WITH turn AS MATERIALIZED (
    SELECT CASE WHEN %(limit)s = 1 THEN 1 WHEN pg_try_advisory_xact_lock(%(lock)s)
        THEN %(limit)s ELSE %(beside)s END AS size
)
SELECT {CLAIMED}, turn.size
FROM turn LEFT JOIN ((
    SELECT message_id, attempts, rings, due_at, ordering_key, yields, started_at
    FROM {{schema}}.inbox AS i
    WHERE consumer = %(consumer)s AND state = 'pending' AND due_at <= now() AND {FIRST_OF_ITS_KEY}
    ORDER BY due_at
    LIMIT (SELECT size FROM turn)
    FOR UPDATE SKIP LOCKED
) AS i CROSS JOIN LATERAL {MESSAGE} AS o) ON true
ORDER BY i.due_at, o.seq
"""

# A saga that another hop holds comes back without its state and is left to the next hop.  Locking
# in id order keeps two hops from waiting for each other; the CTEs are materialized so that just
# the rows of the batch are locked.
CLAIM_SAGAS = f"""
WITH due AS MATERIALIZED (
    SELECT message_id, saga_id, attempts, rings, due_at, ordering_key, yields, started_at
    FROM {{schema}}.inbox
    WHERE consumer = %(consumer)s AND state = 'pending' AND due_at <= now()
      AND (saga_id IS NULL OR saga_id <> ALL (%(skip)s::uuid[]))
    ORDER BY due_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
), held AS MATERIALIZED (
    SELECT s.* FROM (SELECT DISTINCT saga_id FROM due ORDER BY saga_id) AS d CROSS JOIN LATERAL (
        SELECT * FROM {{schema}}.saga WHERE id = d.saga_id FOR UPDATE SKIP LOCKED
    ) AS s
)
SELECT {CLAIMED},
    s.version, s.status, s.direction, s.data::text, s.steps::text, s.course::text, s.consumed
FROM due AS i CROSS JOIN LATERAL {MESSAGE} AS o
LEFT JOIN held AS s ON s.id = i.saga_id
ORDER BY i.due_at, o.seq
"""

# The state in the WHERE clause is what keeps a late worker from overwriting a settled delivery.
#
# Each record has the whole key of its row, and state and consumer are compared in ways that fit no
# index, the state in one that Postgres believes to hold for half of the rows: so it goes from the
# records to the rows by their primary key, even where it believes that there are few, and never
# through the table, all that is due, or all of the consumer's.
SETTLE = """
UPDATE {schema}.inbox AS i
SET state = m.state, outcome = m.outcome, last_error = m.error, position = m.position, attempts = m.attempts,
    yields = m.yields,
    done_at = CASE WHEN m.state = 'pending' THEN NULL ELSE clock_timestamp() END,
    claimed_at = CASE WHEN i.lease IS NULL THEN now() ELSE i.claimed_at END,
    ready_at = CASE WHEN m.state = 'done' THEN i.ready_at END, lease = NULL,
    took = coalesce(m.took, i.took), rings = CASE WHEN m.state = 'pending' THEN m.rings ELSE i.rings END,
    wait_reason = CASE WHEN m.state = 'pending' THEN NULL ELSE i.wait_reason END,
    due_at = CASE WHEN m.state = 'pending'
        THEN clock_timestamp() + m.delay * interval '1 second' ELSE i.due_at END,
    ring_at = CASE WHEN m.state = 'pending'
        THEN clock_timestamp() + m.delay * interval '1 second' ELSE i.ring_at END
FROM json_to_recordset(%(settled)s::json) AS m (id uuid, consumer text, state text,
        outcome text, error text, position int, attempts int, delay float8, took float4, yields int, rings int)
WHERE i.message_id = m.id AND i.consumer = m.consumer AND m.consumer || '' = %(consumer)s
  AND coalesce(i.state = 'pending', false)
"""

SAVE_SAGAS = """
UPDATE {schema}.saga AS s
SET status = m.status, direction = m.direction, data = m.data, steps = m.steps,
    course = m.course, consumed = m.consumed, reason = m.reason,
    updated_at = clock_timestamp(),
    finished_at = CASE WHEN m.final THEN coalesce(s.finished_at, clock_timestamp()) END
FROM json_to_recordset(%(sagas)s::json) AS m (id uuid, name text, status text, direction text,
        data jsonb, steps json, course jsonb, consumed int, reason text, final bool)
WHERE s.id = m.id AND m.name = %(saga)s
"""

_INSERT = insert_messages(FROM_BATCH, f"FROM m WHERE {LOCKED} ON CONFLICT (id) DO NOTHING")

_SENDING = f"""
m AS MATERIALIZED (
    SELECT * FROM json_to_recordset(%(messages)s::json)
        AS m ({BATCH_COLUMNS}, delay float8, position int, note text)
), {LOCKING}, sent AS (
    {_INSERT}
    RETURNING id, seq, kind, category, saga_id, saga, recipient, awaits
), addressed AS (
    SELECT id, seq, saga_id, recipient AS consumer, false AS held
    FROM sent WHERE recipient IS NOT NULL
    UNION
    SELECT sent.id, sent.seq, sent.saga_id, s.consumer, s.held
    FROM sent JOIN {{schema}}.subscription AS s ON s.kind = sent.kind
    WHERE sent.category = 'event'
    UNION
    SELECT id, seq, saga_id, 'saga.' || saga, false FROM sent
    WHERE category = 'event' AND saga IS NOT NULL AND kind = ANY (awaits)
), placed AS (
    SELECT id, consumer, key, seq > min(seq) OVER (PARTITION BY key) AS behind
    FROM ordered JOIN sent USING (id) WHERE key IS NOT NULL
)
"""

# Of the messages of one statement only the first of each key is due: of the others it could not see
# that there is one before them.
#
# A parcel's time is not that of the transaction's begin, since parcels are ordered by it (see
# `internals.remote.results`), and no two have the same.
_DELIVERING = """
INSERT INTO {schema}.inbox
    (message_id, consumer, saga_id, state, outcome, position, last_error, done_at, wait_reason,
     due_at, ring_at, ordering_key, ordering_no)
SELECT addressed.id, addressed.consumer, addressed.saga_id,
       CASE WHEN heard THEN 'done' ELSE 'pending' END,
       CASE WHEN heard THEN coalesce(m.note, 'handled') END,
       CASE WHEN heard THEN m.position END, CASE WHEN heard THEN m.note END,
       CASE WHEN heard THEN clock_timestamp() END,
       waits,
       CASE WHEN waits IS NULL THEN CASE WHEN m.kind = '{parcel}' THEN (SELECT clock_timestamp())
           + (SELECT count(*) FROM sent AS e WHERE e.seq < addressed.seq) * interval '1 microsecond'
           ELSE now() END + coalesce(m.delay, 0) * interval '1 second' END,
       clock_timestamp() + coalesce(m.delay, %(grace)s) * interval '1 second',
       o.key, CASE WHEN o.key IS NOT NULL THEN addressed.seq END
FROM addressed JOIN m ON m.id = addressed.id
LEFT JOIN placed AS o ON o.id = addressed.id AND o.consumer = addressed.consumer
CROSS JOIN LATERAL (
    SELECT m.position IS NOT NULL AND addressed.consumer = 'saga.' || m.saga AS heard,
        CASE WHEN addressed.held THEN 'backfill'
        WHEN o.behind OR o.key IS NOT NULL AND EXISTS (
            SELECT FROM {schema}.inbox AS e
            WHERE e.ordering_key = o.key AND e.state IN ('pending', 'parked')
              AND e.ordering_no < addressed.seq
        ) THEN 'ordering' END AS waits
    OFFSET 0  -- so that it is looked up once
) AS each
RETURNING CASE WHEN state = 'pending' AND due_at <= clock_timestamp() THEN consumer END,
    ordering_key
""".replace("{parcel}", PARCEL)

# An id sent before is the same message sent again: it is dropped, with its deliveries.  The rows
# have the ids of those that were not.
SEND = f"""
WITH {_SENDING}, delivered (consumer, key) AS ({_DELIVERING})
SELECT consumer, key, NULL::uuid FROM delivered UNION ALL SELECT NULL, NULL, id FROM sent
"""

# Whether what has the id is the same message.  Of one from outside, which saga it joins may have
# changed since; its origin says that it is the same.
_SAME = """
kind = %(kind)s AND category = %(category)s AND recipient IS NOT DISTINCT FROM %(recipient)s
AND sender IS NOT DISTINCT FROM %(sender)s AND origin IS NOT DISTINCT FROM %(origin)s
AND (%(origin)s::text IS NOT NULL
     OR root_id = %(root_id)s AND saga_id IS NOT DISTINCT FROM %(saga_id)s)
"""

REPEAT = f"""
UPDATE {{schema}}.outbox SET repeats = repeats + %(times)s WHERE id = %(id)s AND {_SAME} RETURNING id
"""

SENT_BEFORE = f"SELECT id FROM {{schema}}.outbox WHERE id = %(id)s AND {_SAME}"

HOLDER = "SELECT kind, sender, saga, saga_id FROM {schema}.outbox WHERE id = %(id)s"

# The end of a hop, in one round trip.  Ids that are there already come back: whoever gets one looks
# whether it belongs to the same message.
_FINISHING = f"""{_SENDING}, delivered (consumer, key) AS ({_DELIVERING})
SELECT consumer, key, NULL::uuid FROM delivered
UNION ALL SELECT NULL, NULL, id FROM m WHERE NOT EXISTS (SELECT FROM sent WHERE sent.id = m.id)
"""
FINISH = f"WITH settled AS ({SETTLE}), {_FINISHING}"
FINISH_SAGAS = f"WITH settled AS ({SETTLE}), saved AS ({SAVE_SAGAS}), {_FINISHING}"
