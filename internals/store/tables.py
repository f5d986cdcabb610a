"""Tables of the message store, for migrations, queries and tests.

The hop itself uses the static SQL of `internals.store.sql`.  The schema's name here is a
stand-in: `migrations` and `internals.store.sql` put the configured one in its place.
"""

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
    false,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

SCHEMA = "saga"

metadata = MetaData(
    schema=SCHEMA,
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    },
)

_NOW = text("clock_timestamp()")

# Whatever is over has an outcome.
_OUTCOMES = """CASE state
    WHEN 'pending' THEN outcome IS NULL OR outcome IN (
        'failed', 'deferred', 'unhandled', 'unsettled', 'not_forwarded', 'retried')
    WHEN 'done' THEN outcome IS NOT NULL AND outcome IN (
        'handled', 'overran', 'rejected', 'no_undo', 'stale')
    WHEN 'revoked' THEN outcome IS NOT NULL AND outcome IN (
        'undone', 'given_up', 'not_needed', 'dropped', 'superseded', 'unsubscribed')
    ELSE outcome IS NOT NULL AND outcome IN (
        'failed', 'unsettled', 'unexpected', 'id_conflict') END"""

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True, comment="made by the sender; a repeat is dropped"),
    Column("seq", BigInteger, Identity(always=True), nullable=False, comment="order of insertion"),
    Column("kind", Text, nullable=False),
    Column("category", Text, nullable=False, comment="command, event, reply, timeout or act"),
    Column("payload", JSONB, nullable=False),
    Column("saga_id", Uuid, comment="correlation: the saga this belongs to"),
    Column("saga", Text, comment="that saga's name"),
    Column("causation_id", Uuid, comment="the message whose handling sent this one"),
    Column("root_id", Uuid, nullable=False, comment="the command of the step"),
    Column("recipient", Text, comment="consumer addressed; null for an event"),
    Column("sender", Text, comment="consumer that sent it; null for a host's code"),
    Column("awaits", ARRAY(Text), nullable=False, comment="kinds the step's saga waits for"),
    Column("retry", JSONB, comment="the step's retry policy"),
    Column("sent_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column(
        "repeats",
        Integer,
        nullable=False,
        server_default="0",
        comment="how often it was sent again, and dropped",
    ),
    Column("intent_id", Uuid, comment="what it carries out, if an earlier message meant the same"),
    Column("undoes", Text, comment="idempotency key of what a compensation undoes"),
    Column(
        "given_up",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="by its saga: no run of it is started any more",
    ),
    Column(
        "depth",
        Integer,
        nullable=False,
        server_default="0",
        comment="messages above it that handlers handled",
    ),
    Column("origin", Text, comment="bridge, source and id of an event from outside"),
    CheckConstraint("category IN ('command', 'event', 'reply', 'timeout', 'act')", name="category"),
    Index("outbox_saga_id_idx", "saga_id", postgresql_where=text("saga_id IS NOT NULL")),
    Index("outbox_causation_id_idx", "causation_id"),
    Index(
        "outbox_log_idx",
        "seq",
        "sent_at",
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    ),
    comment="Every message ever sent: the event log; of a row nothing changes but its repeats",
)

inbox = Table(
    "inbox",
    metadata,
    Column("message_id", Uuid, primary_key=True),
    Column("consumer", Text, primary_key=True),
    Column("saga_id", Uuid, comment="as in the outbox"),
    Column("state", Text, nullable=False, server_default="pending"),
    Column(
        "due_at", DateTime(timezone=True), comment="not to be run before; null if no time is known"
    ),
    Column("wait_reason", Text, comment="what it waits for beside a time, or waited for last"),
    Column("ring_at", DateTime(timezone=True), nullable=False, comment="the relay's next look"),
    Column("rings", Integer, nullable=False, server_default="0", comment="by the relay"),
    Column("attempts", Integer, nullable=False, server_default="0", comment="failed runs"),
    Column("outcome", Text, comment="what it ended with, or its last try"),
    Column("last_error", Text, comment="the outcome in words; nothing is read from them"),
    Column("lease", Uuid, comment="who handles it outside the claim's transaction"),
    Column("parcel_id", Uuid, comment="from its context's own database: what parked it last"),
    Column(
        "started_at", DateTime(timezone=True), comment="by a handler that acts outside the database"
    ),
    Column("position", Integer, comment="how-manieth message its saga consumed"),
    Column("done_at", DateTime(timezone=True)),
    Column("ordering_key", Text, comment="deliveries of one key go one by one, by number"),
    Column("ordering_no", BigInteger, comment="place in its key"),
    Column("took", REAL, comment="seconds that its handler ran, the last time"),
    Column(
        "rung_at", DateTime(timezone=True), comment="by the relay, the first time since it was due"
    ),
    Column("claimed_at", DateTime(timezone=True), comment="by the worker that handled it last"),
    Column(
        "ready_at",
        DateTime(timezone=True),
        comment="when it was due, where due_at is a lease's end or null",
    ),
    Column(
        "backfill",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="a past event, handed to a new subscriber",
    ),
    Column(
        "yields",
        Integer,
        nullable=False,
        server_default="0",
        comment="runs in a row that gave way to the database and were not counted",
    ),
    CheckConstraint("state IN ('pending', 'done', 'revoked', 'parked')", name="state"),
    CheckConstraint(_OUTCOMES, name="outcome"),
    CheckConstraint(
        "wait_reason IN ('ordering', 'backfill', 'forwarding', 'forwarded')", name="wait_reason"
    ),
    CheckConstraint(
        "(due_at IS NULL) = (wait_reason IS NOT NULL AND wait_reason <> 'forwarding')",
        name="due_at",
    ),
    Index("inbox_due_idx", "consumer", "due_at", postgresql_where=text("state = 'pending'")),
    Index("inbox_parked_idx", "consumer", postgresql_where=text("state = 'parked'")),
    Index(
        "inbox_ordering_idx",
        "ordering_key",
        "ordering_no",
        postgresql_where=text("ordering_key IS NOT NULL AND state IN ('pending', 'parked')"),
    ),
    comment="One row a delivery: one message to one consumer",
    # What is settled is soon forgotten by the index of what is due, however many old rows there are.
    postgresql_with={"autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_threshold": 5000},
)

subscription = Table(
    "subscription",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("consumer", Text, primary_key=True),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("ordered_by", Text, comment="field of the event that is the ordering key"),
    Column(
        "held",
        Boolean,
        nullable=False,
        server_default=false(),
        comment="events wait until past ones were handed over",
    ),
    comment="Who gets which events; recorded when a worker boots, so publishers know nobody",
)

settling = Table(
    "settling",
    metadata,
    Column("root_id", Uuid, primary_key=True, comment="the command of the step"),
    Column("saga_id", Uuid, nullable=False),
    Column("saga", Text, nullable=False, comment="that saga's name"),
    Column("open", Integer, nullable=False, comment="deliveries below it not yet done"),
    Column("tells", Boolean, nullable=False, comment="the saga is told when none is"),
    Column("undo_id", Uuid, comment="the compensation that undoes what is below it"),
    Index("settling_undo_id_idx", "undo_id", postgresql_where=text("undo_id IS NOT NULL")),
    comment="How many deliveries are open below a command, where a saga wants to know",
)

backfill = Table(
    "backfill",
    metadata,
    Column("consumer", Text, primary_key=True),
    Column("since", DateTime(timezone=True), nullable=False),
    Column("reached", BigInteger, nullable=False, comment="the log is read up to here"),
    Column("until", BigInteger, nullable=False, comment="and is to be read up to here"),
    Column("handed", BigInteger, nullable=False, comment="events handed over so far"),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("finished_at", DateTime(timezone=True)),
    comment="How far a new subscriber was handed past events",
)

audit = Table(
    "audit",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("seq", BigInteger, Identity(always=True), nullable=False),
    Column("at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("actor", Text, nullable=False, comment="who did it"),
    Column("act", Text, nullable=False, comment="what was done"),
    Column("saga_id", Uuid),
    Column("message_id", Uuid, comment="the delivery's message, for acts on parked ones"),
    Column("reason", Text, nullable=False, comment="why, in the actor's words"),
    Column("detail", JSONB, nullable=False, comment="what the act was given"),
    Index("audit_saga_id_idx", "saga_id", postgresql_where=text("saga_id IS NOT NULL")),
    Index("audit_message_id_idx", "message_id", postgresql_where=text("message_id IS NOT NULL")),
    comment="What operators did; rows are only ever added, and a trigger sees to it",
)

saga = Table(
    "saga",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False, comment="of the definition; pinned at the start"),
    Column("key", Text, comment="business key, unique for each name"),
    Column("status", Text, nullable=False),
    Column("direction", Text, nullable=False),
    Column("data", JSONB, nullable=False),
    Column("steps", JSON, nullable=False, comment="in the order in which they began"),
    Column("course", JSONB, nullable=False, comment="what else its state holds, if set"),
    Column("consumed", Integer, nullable=False, comment="messages consumed so far"),
    Column("reason", Text, comment="why it is stuck, or why it compensates"),
    Column("started_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("updated_at", DateTime(timezone=True), nullable=False, server_default=_NOW),
    Column("finished_at", DateTime(timezone=True)),
    CheckConstraint(
        "status IN ('running', 'compensating', 'stuck', 'completed', 'compensated')", name="status"
    ),
    CheckConstraint("direction IN ('forward', 'backward')", name="direction"),
    Index("saga_name_key_key", "name", "key", unique=True),
    # Not by when it was updated: saving a saga would cost as many index entries as starting one.
    Index("saga_unfinished_idx", "status", postgresql_where=text("finished_at IS NULL")),
    Index("saga_started_at_idx", "started_at"),
    comment="One saga a row",
    # Room for a new version of the row on its own page.
    postgresql_with={"fillfactor": 70},
)
