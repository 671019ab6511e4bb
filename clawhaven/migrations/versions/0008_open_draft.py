"""open drafts: what somebody has chosen in the wizard and not ordered yet

Revision: 0008, after: 0007
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "open_draft",
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("plan", sa.String(length=40), nullable=False),
        sa.Column("step", sa.String(length=20), nullable=False),
        sa.Column("name", sa.String(length=60), nullable=False),
        sa.Column("persona", sa.String(length=40), nullable=False),
        sa.Column("instructions", sa.Text(), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("key_vendor", sa.String(length=40), nullable=True),
        sa.Column("key_hint", sa.String(length=10), nullable=True),
        sa.Column("key_sealed", sa.Text(), nullable=True),
        sa.Column("bots", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("created_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("updated_at", UtcDateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_open_draft_account_id_account")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_open_draft")),
    )
    op.create_index(op.f("ix_open_draft_updated_at"), "open_draft", ["updated_at"])


def downgrade() -> None:
    op.drop_table("open_draft")
