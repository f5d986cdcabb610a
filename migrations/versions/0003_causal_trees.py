"""Causal trees: steps that wait for all below them, undo of it, order by key, past events.

Revision: 0003
Follows: 0002
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = context.config.attributes["schema"]


def upgrade() -> None:
    op.add_column(
        "inbox",
        sa.Column(
            "ordering_key", sa.Text, comment="deliveries of one key go one by one, by number"
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "inbox", sa.Column("ordering_no", sa.BigInteger, comment="place in its key"), schema=SCHEMA
    )
    op.add_column(
        "inbox",
        sa.Column("took", sa.REAL, comment="seconds that its handler ran, the last time"),
        schema=SCHEMA,
    )
    op.add_column(
        "inbox",
        sa.Column(
            "backfill",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="a past event, handed to a new subscriber",
        ),
        schema=SCHEMA,
    )
    op.create_index(
        "inbox_ordering_idx",
        "inbox",
        ["ordering_key", "ordering_no"],
        schema=SCHEMA,
        postgresql_where=sa.text("ordering_key IS NOT NULL AND state IN ('pending', 'parked')"),
    )
    op.add_column(
        "subscription",
        sa.Column("ordered_by", sa.Text, comment="field of the event that is the ordering key"),
        schema=SCHEMA,
    )
    op.add_column(
        "subscription",
        sa.Column(
            "held",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="events wait until past ones were handed over",
        ),
        schema=SCHEMA,
    )
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
        sa.Column(
            "started_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.text("clock_timestamp()"),
        ),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("consumer", name="backfill_pkey"),
        schema=SCHEMA,
        comment="How far a new subscriber was handed past events",
    )


def downgrade() -> None:
    op.drop_table("backfill", schema=SCHEMA)
    op.drop_table("settling", schema=SCHEMA)
    op.drop_index("outbox_log_idx", "outbox", schema=SCHEMA)
    op.drop_column("subscription", "held", schema=SCHEMA)
    op.drop_column("subscription", "ordered_by", schema=SCHEMA)
    op.drop_index("inbox_ordering_idx", "inbox", schema=SCHEMA)
    for column in ("backfill", "took", "ordering_no", "ordering_key"):
        op.drop_column("inbox", column, schema=SCHEMA)
