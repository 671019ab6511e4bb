"""account_limit: an account's limit a day in a row of its own; one index less for every call

Revision: 0010, after: 0009
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "account_limit",
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("spend_per_day_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_limit")),
    )
    op.execute(
        "INSERT INTO account_limit (account_id, spend_per_day_micros)"
        " SELECT account_id, min(account_spend_per_day_micros) FROM model_grant"
        " WHERE account_spend_per_day_micros IS NOT NULL GROUP BY account_id"
    )
    op.drop_column("model_grant", "account_spend_per_day_micros")
    op.create_index(
        op.f("ix_usage_instance_id_started_at_is_message"), "usage", ["instance_id", "started_at", "is_message"]
    )
    op.drop_index("ix_usage_instance_id_started_at", "usage")
    op.drop_index("ix_usage_message", "usage")


def downgrade() -> None:
    op.create_index(
        "ix_usage_message",
        "usage",
        ["instance_id", "started_at"],
        sqlite_where=sa.text("is_message"),
        postgresql_where=sa.text("is_message"),
    )
    op.create_index(op.f("ix_usage_instance_id_started_at"), "usage", ["instance_id", "started_at"])
    op.drop_index("ix_usage_instance_id_started_at_is_message", "usage")
    op.add_column("model_grant", sa.Column("account_spend_per_day_micros", sa.BigInteger(), nullable=True))
    op.execute(
        "UPDATE model_grant SET account_spend_per_day_micros = (SELECT spend_per_day_micros FROM account_limit"
        " WHERE account_limit.account_id = model_grant.account_id)"
    )
    op.drop_table("account_limit")
