"""SQL of saga rows, apart from what each hop reads and writes."""

from internals.store.sql.hop import CLAIMED

INSERT_SAGAS = """
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

STARTED_BEFORE = """
SELECT m.item, s.id, o.payload = m.payload::jsonb, o.payload::text
FROM unnest(%(item)s::int[], %(key)s::text[], %(payload)s::text[]) AS m (item, key, payload)
JOIN {schema}.saga AS s ON s.name = %(name)s AND s.key = m.key
JOIN {schema}.outbox AS o ON o.saga_id = s.id AND o.kind = 'saga.started'
"""

# Sagas, to consume what is being sent to them; those that another hop holds are left out.  Of an array
# Postgres would guess how long it is, and plan anew each time.
HOLD_SAGAS = """
SELECT s.id, s.version, s.status, s.direction, s.data::text, s.steps::text, s.course::text,
    s.consumed
FROM (SELECT DISTINCT id FROM json_to_recordset(%(ids)s::json) AS m (id uuid) ORDER BY id) AS d
CROSS JOIN LATERAL (
    SELECT * FROM {schema}.saga WHERE id = d.id FOR UPDATE SKIP LOCKED
) AS s
"""

EXISTING_SAGAS = """
SELECT id FROM {schema}.saga WHERE id = ANY (%(id)s::uuid[])
"""

# Every message that sagas consumed, in the order in which each consumed them.
HISTORY = f"""
SELECT {CLAIMED},
    s.name, s.version, s.status, s.direction, s.data::text, s.steps::text, s.course::text,
    s.consumed
FROM {{schema}}.saga AS s
JOIN {{schema}}.outbox AS o ON o.saga_id = s.id
JOIN {{schema}}.inbox AS i ON i.message_id = o.id AND i.consumer = 'saga.' || s.name
WHERE i.position IS NOT NULL AND (%(id)s::uuid[] IS NULL OR s.id = ANY (%(id)s::uuid[]))
ORDER BY s.id, i.position
"""
