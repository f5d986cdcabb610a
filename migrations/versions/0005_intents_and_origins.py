"""Intents, depths and origins of messages, and runs that gave way.

A message says which intent it carries out, how deep it lies below the first of its tree, and, if it
came from outside, under which id.  A delivery says how often in a row it gave way to the database.

Revision: 0005
Follows: 0004
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

SCHEMA = context.config.attributes["schema"]


def upgrade() -> None:
    op.add_column(
        "outbox",
        sa.Column(
            "intent_id",
            sa.Uuid,
            comment="what it carries out, if an earlier message meant the same",
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "outbox",
        sa.Column("undoes", sa.Text, comment="idempotency key of what a compensation undoes"),
        schema=SCHEMA,
    )
    op.add_column(
        "outbox",
        sa.Column(
            "given_up",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="by its saga: no run of it is started any more",
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "outbox",
        sa.Column(
            "depth",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="messages above it that handlers handled",
        ),
        schema=SCHEMA,
    )
    op.add_column(
        "outbox",
        sa.Column("origin", sa.Text, comment="bridge, source and id of an event from outside"),
        schema=SCHEMA,
    )
    op.add_column(
        "inbox",
        sa.Column(
            "yields",
            sa.Integer,
            nullable=False,
            server_default="0",
            comment="runs in a row that gave way to the database and were not counted",
        ),
        schema=SCHEMA,
    )


def downgrade() -> None:
    op.drop_column("inbox", "yields", schema=SCHEMA)
    for column in ("origin", "depth", "given_up", "undoes", "intent_id"):
        op.drop_column("outbox", column, schema=SCHEMA)
