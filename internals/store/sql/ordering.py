"""The SQL of deliveries that are ordered: the locks of publishers, and whose turn it is next.

None of it runs for subscriptions that have no order.
"""

from internals.store.sql.causal import FIRST_OF_ITS_KEY, OPEN

#: Keys that one statement locks one by one, at most.  All locks of a server are in one table of a
#: fixed size, by default with room for 64 a connection.
_KEYS = 100
#: The same for the statements of one transaction together.
_KEYS_IN_ALL = 1000
#: Keys whose publishers one statement asks for, at most.
_ASKED = 64

# Locks are named after the schema: two applications in one database do not meet.
_KEY_LOCK = "hashtextextended('{schema}:' || key, 0)"
_CONSUMER_LOCK = "hashtextextended('{schema}:' || consumer, 1)"
_BACKFILL_LOCK = "hashtextextended('{schema}:' || consumer, 2)"

# An event that some subscription takes in order gets its place by the lock of its key, which is held
# until the commit: the order of `seq` alone is not that of commits.  Whoever has few keys shares the
# consumer's lock; whoever has more than the table of locks may be asked for has that one alone, and
# no others.  All are taken in one order, so that two publishers cannot wait for each other.
#
# A hop waits for them but a moment (`key_wait`): whoever holds one may be frozen, and a thread that
# waits is one fewer for everything else.  In a host's transaction they are waited for as its call may.
LOCKING = f"""
ordered AS MATERIALIZED (
    SELECT m.id, s.consumer, s.consumer || ':'
        || (m.payload #>> string_to_array(s.ordered_by, '.')) AS key
    FROM m JOIN {{schema}}.subscription AS s ON s.kind = m.kind
    WHERE m.category = 'event' AND s.ordered_by IS NOT NULL
), keys AS MATERIALIZED (
    SELECT DISTINCT consumer, key FROM ordered WHERE key IS NOT NULL
), many AS MATERIALIZED (
    SELECT n > {_KEYS} OR set_config('saga.ordered_keys', (n
        + coalesce(nullif(current_setting('saga.ordered_keys', true), ''), '0')::int)::text,
        true)::int > {_KEYS_IN_ALL} AS so
    FROM (SELECT count(*) AS n FROM keys) AS counted WHERE n > 0
), locked_consumers AS MATERIALIZED (
    SELECT set_config('lock_timeout', coalesce(%(key_wait)s, current_setting('lock_timeout')), true),
        CASE WHEN many.so THEN pg_advisory_xact_lock({_CONSUMER_LOCK})
        ELSE pg_advisory_xact_lock_shared({_CONSUMER_LOCK}) END
    FROM (SELECT DISTINCT consumer FROM keys ORDER BY consumer) AS each CROSS JOIN many
), locked AS MATERIALIZED (
    SELECT pg_advisory_xact_lock({_KEY_LOCK})
    FROM (SELECT key FROM keys CROSS JOIN many
          CROSS JOIN (SELECT count(*) AS n FROM locked_consumers) AS before
          WHERE before.n > 0 AND NOT many.so ORDER BY key) AS each
)"""

#: Holds once the locks are taken.
LOCKED = "(SELECT count(*) FROM locked_consumers) + (SELECT count(*) FROM locked) >= 0"

#: Reasons to wait of what is due when its turn comes.
HELD_UP_BY = "('ordering', 'backfill')"

# Whether a row `i` waits for more than those before it: past events are being handed to its
# consumer, and it is a live one.
_NOT_HELD = """(i.backfill OR NOT EXISTS (
    SELECT FROM {schema}.subscription AS s JOIN {schema}.outbox AS o ON o.kind = s.kind
    WHERE o.id = i.message_id AND s.consumer = i.consumer AND s.held))"""

# The consumer whose turn it is with each key.  Its delivery may be due by now: whoever sent it did not
# see the one before.  What is held until past events were handed over goes on being held.
#
# Of a key that has no delivery any more it is asked whether somebody is publishing with it, or handing
# past events over, who may have seen the last one open: if nobody has its locks, they are ours until
# the commit, and whoever publishes after that sees the last one settled.
WAKE = f"""
WITH head AS MATERIALIZED (
    SELECT k.key, k.place, split_part(k.key, ':', 1) AS owner, i.*
    FROM (SELECT key, row_number() OVER (ORDER BY key) AS place
          FROM (SELECT DISTINCT key FROM unnest(%(keys)s::text[]) AS keys (key)) AS each) AS k
    LEFT JOIN LATERAL (
        SELECT message_id, consumer, state, due_at FROM {{schema}}.inbox
        WHERE ordering_key = k.key AND state IN {OPEN} ORDER BY ordering_no LIMIT 1
    ) AS i ON true
), woken AS (
    UPDATE {{schema}}.inbox AS i
    SET due_at = now(), wait_reason = NULL,
        ring_at = clock_timestamp() + %(grace)s * interval '1 second'
    FROM head
    WHERE i.message_id = head.message_id AND i.consumer = head.consumer
      AND i.state = 'pending' AND i.wait_reason IN {HELD_UP_BY} AND {_NOT_HELD}
    RETURNING i.consumer
)
SELECT consumer, NULL AS key, NULL::bool AS free FROM woken
UNION ALL
SELECT consumer, NULL, NULL FROM head WHERE state = 'pending' AND due_at <= clock_timestamp()
UNION ALL
SELECT NULL, key, CASE WHEN place > {_ASKED} THEN false
    WHEN NOT pg_try_advisory_xact_lock_shared({_CONSUMER_LOCK.replace("consumer", "owner")}) THEN false
    WHEN NOT pg_try_advisory_xact_lock_shared({_BACKFILL_LOCK.replace("consumer", "owner")}) THEN false
    ELSE pg_try_advisory_xact_lock({_KEY_LOCK}) END
FROM head WHERE message_id IS NULL
"""

# Keys whose first delivery is held up: its predecessor was settled while it was being sent.
HELD_UP = f"""
SELECT DISTINCT i.ordering_key FROM {{schema}}.inbox AS i
WHERE i.ordering_key IS NOT NULL AND i.state IN {OPEN} AND i.state = 'pending'
  AND i.wait_reason IN {HELD_UP_BY} AND {FIRST_OF_ITS_KEY} AND {_NOT_HELD}
LIMIT 1000
"""

# Taken before past events are handed over, and held until the commit.  Live ones need not wait for it.
HAND_OVER = """
SELECT pg_advisory_xact_lock({lock}) FROM (SELECT %(consumer)s::text AS consumer) AS backfill
""".replace("{lock}", _BACKFILL_LOCK)
