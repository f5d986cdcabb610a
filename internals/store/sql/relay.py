"""SQL of the relay: which consumers it rings for."""

from internals.store.sql.causal import FIRST_OF_ITS_KEY

# What was committed but not handled: a doorbell was lost, or the worker that heard it died.
# Whatever a live hop holds is locked, and so not late.  Only the oldest of what is due is looked at:
# a hop takes it first, and in a backlog that is being handled none of it is late.  Nor is what waits
# for one before it.
RING = """
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
""".replace("{first_of_its_key}", FIRST_OF_ITS_KEY)

# Of these consumers those that have something to do now, which another may be doing.
DUE = """
SELECT of.consumer FROM unnest(%(consumers)s::text[]) AS of (consumer)
WHERE EXISTS (
    SELECT FROM {schema}.inbox AS i
    WHERE i.consumer = of.consumer AND state = 'pending' AND due_at <= now()
      AND {first_of_its_key})
""".replace("{first_of_its_key}", FIRST_OF_ITS_KEY)
