"""Waiting times: when a delivery was claimed and rung for, and how often a message came again.

And an index by which a trace finds what operators did with its messages.

Revision: 0004
Follows: 0003
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

SCHEMA = context.config.attributes["schema"]

_LOG = "Every message ever sent, append-only: the event log"
_COUNTED_LOG = "Every message ever sent: the event log; of a row nothing changes but its repeats"


def upgrade() -> None:
    op.add_column(
        "inbox",
        sa.Column(
            "rung_at",
            sa.DateTime(timezone=True),
            comment="by the relay, the first time since it was due",
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "inbox",
        sa.Column(
            "claimed_at",
            sa.DateTime(timezone=True),
            comment="by the worker that handled it last",
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "inbox",
        sa.Column(
            "ready_at",
            sa.DateTime(timezone=True),
            comment="when it was due, where due_at is a lease's end or never comes",
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "outbox",
        sa.Column(
            "repeats",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="how often it was sent again, and dropped",
        ),
        schema=SCHEMA,
    )
    op.create_index(
        "audit_message_id_idx",
        "audit",
        ["message_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("message_id IS NOT NULL"),
    )
    op.create_table_comment("outbox", _COUNTED_LOG, existing_comment=_LOG, schema=SCHEMA)


def downgrade() -> None:
    op.create_table_comment("outbox", _LOG, existing_comment=_COUNTED_LOG, schema=SCHEMA)
    op.drop_index("audit_message_id_idx", "audit", schema=SCHEMA)
    op.drop_column("outbox", "repeats", schema=SCHEMA)
    for column in ("ready_at", "claimed_at", "rung_at"):
        op.drop_column("inbox", column, schema=SCHEMA)
