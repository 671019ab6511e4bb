"""integration: customers' accounts at other vendors, and the assistants that may read them

Revision: 0015, after: 0014
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "integration",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("vendor", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("address", sa.String(length=320), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("sealed_refresh", sa.Text(), nullable=False),
        sa.Column("sealed_access", sa.Text(), nullable=False),
        sa.Column("access_expires_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("connected_at", UtcDateTime(timezone=True), nullable=False),
        sa.Column("lapsed_at", UtcDateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_integration")),
        sa.UniqueConstraint("account_id", "vendor", name=op.f("uq_integration_account_id")),
    )
    op.create_index(op.f("ix_integration_vendor"), "integration", ["vendor", "subject"])
    op.create_table(
        "integration_attempt",
        sa.Column("state_hash", sa.String(length=64), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("vendor", sa.String(length=40), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=True),
        sa.Column("sealed_verifier", sa.Text(), nullable=False),
        sa.Column("back_to", sa.String(length=300), nullable=False),
        sa.Column("expires_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_integration_attempt")),
    )
    op.create_index(op.f("ix_integration_attempt_account_id"), "integration_attempt", ["account_id"])
    op.create_index(op.f("ix_integration_attempt_expires_at"), "integration_attempt", ["expires_at"])
    op.create_table(
        "integration_attachment",
        sa.Column("instance_id", sa.String(length=40), nullable=False),
        sa.Column("vendor", sa.String(length=40), nullable=False),
        sa.Column("integration_id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("sealed_token", sa.Text(), nullable=False),
        sa.Column("attached_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "vendor", name=op.f("pk_integration_attachment")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_integration_attachment_token_hash")),
    )
    op.create_index(op.f("ix_integration_attachment_integration_id"), "integration_attachment", ["integration_id"])
    op.create_table(
        "integration_revocation",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("vendor", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("sealed_token", sa.Text(), nullable=False),
        sa.Column("asked_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_integration_revocation")),
    )
    op.create_index(op.f("ix_integration_revocation_account_id"), "integration_revocation", ["account_id"])


def downgrade() -> None:
    op.drop_table("integration_revocation")
    op.drop_table("integration_attachment")
    op.drop_table("integration_attempt")
    op.drop_table("integration")
