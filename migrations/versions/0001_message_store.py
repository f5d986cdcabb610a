"""The message store: saga, outbox, inbox, subscription, audit.

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
        sa.PrimaryKeyConstraint("id", name="outbox_pkey"),
        sa.CheckConstraint(
            "category IN ('command', 'event', 'reply', 'timeout', 'act')",
            name=op.f("outbox_category_check"),
        ),
        schema=SCHEMA,
        comment="Every message ever sent, append-only: the event log",
    )
    op.create_index(
        "outbox_saga_id_idx",
        "outbox",
        ["saga_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("saga_id IS NOT NULL"),
    )
    op.create_index("outbox_causation_id_idx", "outbox", ["causation_id"], schema=SCHEMA)
    op.create_table(
        "inbox",
        sa.Column("message_id", sa.Uuid, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("saga_id", sa.Uuid, comment="as in the outbox"),
        sa.Column("state", sa.Text, nullable=False, server_default="pending"),
        sa.Column(
            "due_at", sa.DateTime(timezone=True), nullable=False, comment="not to be run before"
        ),
        sa.Column(
            "ring_at", sa.DateTime(timezone=True), nullable=False, comment="the relay's next look"
        ),
        sa.Column("rings", sa.Integer, nullable=False, server_default="0", comment="by the relay"),
        sa.Column(
            "attempts", sa.Integer, nullable=False, server_default="0", comment="failed runs"
        ),
        sa.Column("last_error", sa.Text),
        sa.Column("lease", sa.Uuid, comment="who handles it outside the claim's transaction"),
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            comment="by a handler that acts outside the database",
        ),
        sa.Column("position", sa.Integer, comment="how-manieth message its saga consumed"),
        sa.Column("done_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("message_id", "consumer", name="inbox_pkey"),
        sa.CheckConstraint(
            "state IN ('pending', 'done', 'revoked', 'parked')", name=op.f("inbox_state_check")
        ),
        schema=SCHEMA,
        comment="One row a delivery: one message to one consumer",
    )
    pending = sa.text("state = 'pending'")
    op.create_index(
        "inbox_due_idx", "inbox", ["consumer", "due_at"], schema=SCHEMA, postgresql_where=pending
    )
    op.create_index("inbox_ring_idx", "inbox", ["ring_at"], schema=SCHEMA, postgresql_where=pending)
    op.create_index(
        "inbox_parked_idx",
        "inbox",
        ["consumer"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'parked'"),
    )
    op.create_index(
        "inbox_saga_id_idx",
        "inbox",
        ["saga_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("saga_id IS NOT NULL"),
    )
    op.create_table(
        "subscription",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("consumer", sa.Text, nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False, server_default=NOW),
        sa.PrimaryKeyConstraint("kind", "consumer", name="subscription_pkey"),
        schema=SCHEMA,
        comment="Who gets which events; recorded when a worker boots, so publishers know nobody",
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
    )
    op.create_index("saga_name_key_key", "saga", ["name", "key"], unique=True, schema=SCHEMA)
    op.create_index(
        "saga_unfinished_idx",
        "saga",
        ["status", "updated_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_index("saga_started_at_idx", "saga", ["started_at"], schema=SCHEMA)


def downgrade() -> None:
    for table in ("saga", "audit", "subscription", "inbox", "outbox"):
        op.drop_table(table, schema=SCHEMA)
    op.execute(f"DROP FUNCTION {SCHEMA}.refuse_change()")
