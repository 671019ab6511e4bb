"""settings: last use of sessions, new addresses, views of operators, deleted accounts, alerts that are done with

Revision: 0007, after: 0006
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    at = UtcDateTime(timezone=True)
    op.add_column("login_session", sa.Column("seen_at", at, nullable=True))
    op.add_column("notice", sa.Column("closed_at", at, nullable=True))
    op.create_table(
        "email_change",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("user_id", sa.String(length=40), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("created_at", at, nullable=False),
        sa.Column("expires_at", at, nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["user_account.id"], name=op.f("fk_email_change_user_id_user_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_email_change")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_email_change_token_hash")),
    )
    op.create_index(op.f("ix_email_change_user_id"), "email_change", ["user_id"])
    op.create_table(
        "account_view",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("session_id", sa.String(length=40), nullable=False),
        sa.Column("operator_id", sa.String(length=40), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("began_at", at, nullable=False),
        sa.Column("until_at", at, nullable=False),
        sa.Column("ended_at", at, nullable=True),
        sa.ForeignKeyConstraint(
            ["operator_id"], ["user_account.id"], name=op.f("fk_account_view_operator_id_user_account")
        ),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_account_view_account_id_account")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_account_view")),
    )
    for name in ("session_id", "account_id", "ended_at"):
        op.create_index(op.f(f"ix_account_view_{name}"), "account_view", [name])
    op.create_table(
        "account_deletion",
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("sealed_email", sa.Text(), nullable=False),
        sa.Column("asked_at", at, nullable=False),
        sa.Column("ended_at", at, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name=op.f("fk_account_deletion_account_id_account")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_deletion")),
    )


def downgrade() -> None:
    op.drop_table("account_deletion")
    op.drop_table("account_view")
    op.drop_table("email_change")
    op.drop_column("notice", "closed_at")
    op.drop_column("login_session", "seen_at")
