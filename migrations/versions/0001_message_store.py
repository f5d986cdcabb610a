"""The message store: outbox, inbox, subscription, settling, backfill, audit, saga.

Revision: 0001
Follows: nothing
"""

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SCHEMA = context.config.attributes["schema"]
NOW = sa.text("clock_timestamp()")

OUTCOMES = """CASE state
    WHEN 'pending' THEN outcome IS NULL OR outcome IN (
        'failed', 'deferred', 'unhandled', 'unsettled', 'not_forwarded', 'retried')
    WHEN 'done' THEN outcome IS NOT NULL AND outcome IN (
        'handled', 'overran', 'rejected', 'no_undo', 'stale')
    WHEN 'revoked' THEN outcome IS NOT NULL AND outcome IN (
        'undone', 'given_up', 'not_needed', 'dropped', 'superseded', 'unsubscribed')
    ELSE outcome IS NOT NULL AND outcome IN (
        'failed', 'unsettled', 'unexpected', 'id_conflict') END"""


def upgrade() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.Uuid, nullable=False, comment="made by the sender; a repeat is dropped"),
        sa.Column(
            "seq",
            sa.BigInteger,
            sa.Identity(always=True),
            nullable=False,
            comment="order of insertion",
        ),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column(
            "category", sa.Text, nullable=False, comment="command, event, reply, timeout or act"
        ),
        sa.Column("payload", JSONB, nullable=False),
        sa.Column("saga_id", sa.Uuid, comment="correlation: the saga this belongs to"),
        sa.Column("saga", sa.Text, comment="that saga's name"),
        sa.Column("causation_id", sa.Uuid, comment="the message whose handling sent this one"),
        sa.Column("root_id", sa.Uuid, nullable=False, comment="the command of the step"),
        sa.Column("recipient", sa.Text, comment="consumer addressed; null for an event"),
        sa.Column("sender", sa.Text, comment="consumer that sent it; null for a host's code"),
        sa.Column(
            "awaits", ARRAY(sa.Text), nullable=False, comment="kinds the step's saga waits for"
        ),
        sa.Column("retry", JSONB, comment="the step's retry policy"),
        sa.Column("sent_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column(
            "repeats",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="how often it was sent again, and dropped",
        ),
        sa.Column(
            "intent_id",
            sa.Uuid,
            comment="what it carries out, if an earlier message meant the same",
        ),
        sa.Column("undoes", sa.Text, comment="idempotency key of what a compensation undoes"),
        sa.Column(
            "given_up",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="by its saga: no run of it is started any more",
        ),
        sa.Column(
            "depth",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="messages above it that handlers handled",
        ),
        sa.Column("origin", sa.Text, comment="bridge, source and id of an event from outside"),
        sa.PrimaryKeyConstraint("id", name="outbox_pkey"),
        sa.CheckConstraint(
            "category IN ('command', 'event', 'reply', 'timeout', 'act')",
            name=op.f("outbox_category_check"),
        ),
        schema=SCHEMA,
        comment="Every message ever sent: the event log; of a row nothing changes but its repeats",
    )
    op.create_index(
        "outbox_saga_id_idx",
        "outbox",
        ["saga_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("saga_id IS NOT NULL"),
    )
    op.create_index("outbox_causation_id_idx", "outbox", ["causation_id"], schema=SCHEMA)
    # Next to nothing to keep, and enough to read the log in portions.
    op.create_index(
        "outbox_log_idx",
        "outbox",
        ["seq", "sent_at"],
        schema=SCHEMA,
        postgresql_using="brin",
        postgresql_with={"autosummarize": "on"},
    )
    op.create_table(
        "inbox",
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("saga_id", sa.Uuid, comment="as in the outbox"),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column(
            "due_at",
            sa.DateTime(timezone=True),
            comment="not to be run before; null if no time is known",
        ),
        sa.Column(
            "wait_reason", sa.Text, comment="what it waits for beside a time, or waited for last"
        ),
        sa.Column(
            "ring_at", sa.DateTime(timezone=True), nullable=False, comment="the relay's next look"
        ),
        sa.Column("rings", sa.Integer, nullable=False, server_default="0", comment="by the relay"),
        sa.Column(
            "attempts", sa.Integer, nullable=False, server_default="0", comment="failed runs"
        ),
        sa.Column("outcome", sa.Text, comment="what it ended with, or its last try"),
        sa.Column("last_error", sa.Text, comment="the outcome in words; nothing is read from them"),
        sa.Column("lease", sa.Uuid, comment="who handles it outside the claim's transaction"),
        sa.Column(
            "parcel_id", sa.Uuid, comment="from its context's own database: what parked it last"
        ),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            comment="by a handler that acts outside the database",
        ),
        sa.Column("position", sa.Integer, comment="how-manieth message its saga consumed"),
        sa.Column("done_at", sa.DateTime(timezone=True)),
        sa.Column(
            "ordering_key", sa.Text, comment="deliveries of one key go one by one, by number"
        ),
        sa.Column("ordering_no", sa.BigInteger, comment="place in its key"),
        sa.Column("took", sa.REAL, comment="seconds that its handler ran, the last time"),
        sa.Column(
            "rung_at",
            sa.DateTime(timezone=True),
            comment="by the relay, the first time since it was due",
        ),
        sa.Column(
            "claimed_at", sa.DateTime(timezone=True), comment="by the worker that handled it last"
        ),
        sa.Column(
            "ready_at",
            sa.DateTime(timezone=True),
            comment="when it was due, where due_at is a lease's end or null",
        ),
        sa.Column(
            "backfill",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="a past event, handed to a new subscriber",
        ),
        sa.Column(
            "yields",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="runs in a row that gave way to the database and were not counted",
        ),
        sa.PrimaryKeyConstraint("message_id", "consumer", name="inbox_pkey"),
        sa.CheckConstraint(
            "state IN ('pending', 'done', 'revoked', 'parked')", name=op.f("inbox_state_check")
        ),
        sa.CheckConstraint(OUTCOMES, name=op.f("inbox_outcome_check")),
        sa.CheckConstraint(
            "wait_reason IN ('ordering', 'backfill', 'forwarding', 'forwarded')",
            name=op.f("inbox_wait_reason_check"),
        ),
        sa.CheckConstraint(
            "(due_at IS NULL) = (wait_reason IS NOT NULL AND wait_reason <> 'forwarding')",
            name=op.f("inbox_due_at_check"),
        ),
        schema=SCHEMA,
        comment="One row a delivery: one message to one consumer",
        # What is settled is soon forgotten by the index of what is due, however many old rows
        # there are.
        postgresql_with={
            "autovacuum_vacuum_scale_factor": 0.02,
            "autovacuum_vacuum_threshold": 5000,
        },
    )
    op.create_index(
        "inbox_due_idx",
        "inbox",
        ["consumer", "due_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.create_index(
        "inbox_parked_idx",
        "inbox",
        ["consumer"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'parked'"),
    )
    op.create_index(
        "inbox_ordering_idx",
        "inbox",
        ["ordering_key", "ordering_no"],
        schema=SCHEMA,
        postgresql_where=sa.text("ordering_key IS NOT NULL AND state IN ('pending', 'parked')"),
    )
    op.create_table(
        "subscription",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("ordered_by", sa.Text, comment="field of the event that is the ordering key"),
        sa.Column(
            "held",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="events wait until past ones were handed over",
        ),
        sa.PrimaryKeyConstraint("kind", "consumer", name="subscription_pkey"),
        schema=SCHEMA,
        comment="Who gets which events; recorded when a worker boots, so publishers know nobody",
    )
    op.create_table(
        "settling",
        sa.Column("root_id", sa.Uuid, nullable=False, comment="the command of the step"),
        sa.Column("saga_id", sa.Uuid, nullable=False),
        sa.Column("saga", sa.Text, nullable=False, comment="that saga's name"),
        sa.Column("open", sa.Integer, nullable=False, comment="deliveries below it not yet done"),
        sa.Column("tells", sa.Boolean, nullable=False, comment="the saga is told when none is"),
        sa.Column("undo_id", sa.Uuid, comment="the compensation that undoes what is below it"),
        sa.PrimaryKeyConstraint("root_id", name="settling_pkey"),
        schema=SCHEMA,
        comment="How many deliveries are open below a command, where a saga wants to know",
    )
    op.create_index(
        "settling_undo_id_idx",
        "settling",
        ["undo_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("undo_id IS NOT NULL"),
    )
    op.create_table(
        "backfill",
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("reached", sa.BigInteger, nullable=False, comment="the log is read up to here"),
        sa.Column("until", sa.BigInteger, nullable=False, comment="and is to be read up to here"),
        sa.Column("handed", sa.BigInteger, nullable=False, comment="events handed over so far"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("consumer", name="backfill_pkey"),
        schema=SCHEMA,
        comment="How far a new subscriber was handed past events",
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("actor", sa.Text, nullable=False, comment="who did it"),
        sa.Column("act", sa.Text, nullable=False, comment="what was done"),
        sa.Column("saga_id", sa.Uuid),
        sa.Column("message_id", sa.Uuid, comment="the delivery's message, for acts on parked ones"),
        sa.Column("reason", sa.Text, nullable=False, comment="why, in the actor's words"),
        sa.Column("detail", JSONB, nullable=False, comment="what the act was given"),
        sa.PrimaryKeyConstraint("id", name="audit_pkey"),
        schema=SCHEMA,
        comment="What operators did; rows are only ever added, and a trigger sees to it",
    )
    op.create_index(
        "audit_saga_id_idx",
        "audit",
        ["saga_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("saga_id IS NOT NULL"),
    )
    op.create_index(
        "audit_message_id_idx",
        "audit",
        ["message_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("message_id IS NOT NULL"),
    )
    # Nobody but the owner could change a row, and the trigger keeps the owner from it too.
    op.execute(f"REVOKE UPDATE, DELETE, TRUNCATE ON {SCHEMA}.audit FROM PUBLIC")
    op.execute(
        f"""
        CREATE FUNCTION {SCHEMA}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'the audit is append-only: % is refused', TG_OP
                USING ERRCODE = 'insufficient_privilege';
        END $$
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {SCHEMA}.audit
        FOR EACH STATEMENT EXECUTE FUNCTION {SCHEMA}.refuse_change()
        """
    )
    op.create_table(
        "saga",
        sa.Column("id", sa.Uuid, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column(
            "version", sa.Integer, nullable=False, comment="of the definition; pinned at the start"
        ),
        sa.Column("key", sa.Text, comment="business key, unique for each name"),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("direction", sa.Text, nullable=False),
        sa.Column("data", JSONB, nullable=False),
        sa.Column("steps", JSON, nullable=False, comment="in the order in which they began"),
        sa.Column("course", JSONB, nullable=False, comment="what else its state holds, if set"),
        sa.Column("consumed", sa.Integer, nullable=False, comment="messages consumed so far"),
        sa.Column("reason", sa.Text, comment="why it is stuck, or why it compensates"),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="saga_pkey"),
        sa.CheckConstraint(
            "status IN ('running', 'compensating', 'stuck', 'completed', 'compensated')",
            name=op.f("saga_status_check"),
        ),
        sa.CheckConstraint(
            "direction IN ('forward', 'backward')", name=op.f("saga_direction_check")
        ),
        schema=SCHEMA,
        comment="One saga a row",
        # Room for a new version of the row on its own page.
        postgresql_with={"fillfactor": 70},
    )
    op.create_index("saga_name_key_key", "saga", ["name", "key"], unique=True, schema=SCHEMA)
    # Not by when it was updated: saving a saga would cost as many index entries as starting one.
    op.create_index(
        "saga_unfinished_idx",
        "saga",
        ["status"],
        schema=SCHEMA,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("saga_started_at_idx", "saga", ["started_at"], schema=SCHEMA)


def downgrade() -> None:
    for table in ("saga", "audit", "backfill", "settling", "subscription", "inbox", "outbox"):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f"DROP FUNCTION {SCHEMA}.refuse_change()")
