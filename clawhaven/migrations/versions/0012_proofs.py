"""proofs: links that confirm the end of an account, comparisons of the money that are kept, the waitlist's language

Revision: 0012, after: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deletion_link",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("expires_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_deletion_link_user_id_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletion_link")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_deletion_link_token_hash")),
    )
    op.create_index(op.f("ix_deletion_link_user_id"), "deletion_link", ["user_id"])
    op.create_table(
        "comparison",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("asked_by", sa.String(length=60), nullable=False),
        sa.Column("is_repair", sa.Boolean(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("asked_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", UtcDateTime(timezone=True), nullable=True),
        sa.Column("plan", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_comparison")),
    )
    op.create_index(op.f("ix_comparison_asked_at"), "comparison", ["asked_at"])
    op.add_column("waitlist", sa.Column("language", sa.String(length=10), nullable=True))


def downgrade() -> None:
    op.drop_column("waitlist", "language")
    op.drop_table("comparison")
    op.drop_table("deletion_link")
