"""insight: limits of money that were reached, and what vendors say was used

Revision: 0005, after: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "limit_reached",
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("limit", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("told_at", UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("instance_id", "day", "limit", name=op.f("pk_limit_reached")),
    )
    op.create_index(op.f("ix_limit_reached_told_at"), "limit_reached", ["told_at"])
    tokens = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    op.create_table(
        "vendor_usage",
        sa.Column("upstream", sa.String(length=32), nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=True) for name in (*tokens, "cost_micros")),
        sa.Column("imported_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("upstream", "day", "model", name=op.f("pk_vendor_usage")),
    )


def downgrade() -> None:
    op.drop_table("vendor_usage")
    op.drop_table("limit_reached")
