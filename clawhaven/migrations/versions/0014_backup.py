"""backup: copies of assistants, and which OpenClaw each one runs

Revision: 0014, after: 0013
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "backup",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("made_for", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("openclaw_version", sa.String(length=40), nullable=False),
        sa.Column("problem", sa.String(length=60), nullable=True),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("ready_at", UtcDateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["instance_id"], ["instance.id"], name=op.f("fk_backup_instance_id_instance")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backup")),
    )
    op.create_index("ix_backup_instance_id_created_at", "backup", ["instance_id", "created_at"])
    op.create_index(op.f("ix_backup_state"), "backup", ["state"])
    op.add_column("instance", sa.Column("openclaw_version", sa.String(length=40), nullable=True))
    op.add_column("instance", sa.Column("openclaw_since_at", UtcDateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("instance", "openclaw_since_at")
    op.drop_column("instance", "openclaw_version")
    op.drop_index(op.f("ix_backup_state"), table_name="backup")
    op.drop_index("ix_backup_instance_id_created_at", table_name="backup")
    op.drop_table("backup")
