"""Fewer indexes, since each costs every delivery: the relay finds what is late among what is due, a
saga's deliveries are found through its messages, and saving a saga touches no index.

Revision: 0002
Follows: 0001
"""

import sqlalchemy as sa
from alembic import context, op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

SCHEMA = context.config.attributes["schema"]
UNFINISHED = {"schema": SCHEMA, "postgresql_where": sa.text("finished_at IS NULL")}


def upgrade() -> None:
    op.drop_index("inbox_ring_idx", "inbox", schema=SCHEMA)
    op.drop_index("inbox_saga_id_idx", "inbox", schema=SCHEMA)
    op.drop_index("saga_unfinished_idx", "saga", schema=SCHEMA)
    op.create_index("saga_unfinished_idx", "saga", ["status"], **UNFINISHED)
    # Room for a new version of the row on its own page, and what is settled is soon forgotten by
    # the index of what is due, however many old rows there are.
    op.execute(f"ALTER TABLE {SCHEMA}.saga SET (fillfactor = 70)")
    op.execute(
        f"ALTER TABLE {SCHEMA}.inbox SET (autovacuum_vacuum_scale_factor = 0.02, "
        "autovacuum_vacuum_threshold = 5000)"
    )


def downgrade() -> None:
    op.execute(
        f"ALTER TABLE {SCHEMA}.inbox RESET (autovacuum_vacuum_scale_factor, "
        "autovacuum_vacuum_threshold)"
    )
    op.execute(f"ALTER TABLE {SCHEMA}.saga RESET (fillfactor)")
    op.drop_index("saga_unfinished_idx", "saga", schema=SCHEMA)
    op.create_index("saga_unfinished_idx", "saga", ["status", "updated_at"], **UNFINISHED)
    op.create_index(
        "inbox_saga_id_idx",
        "inbox",
        ["saga_id"],
        schema=SCHEMA,
        postgresql_where=sa.text("saga_id IS NOT NULL"),
    )
    op.create_index(
        "inbox_ring_idx",
        "inbox",
        ["ring_at"],
        schema=SCHEMA,
        postgresql_where=sa.text("state = 'pending'"),
    )
