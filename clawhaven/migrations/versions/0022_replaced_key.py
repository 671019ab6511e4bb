"""replaced key: the secret before the present one, with which an assistant may still run

Revision: 0022, after: 0021
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

CONDITION = "replaced_key_hash IS NOT NULL"


def upgrade() -> None:
    op.add_column("model_grant", sa.Column("replaced_key_hash", sa.String(length=64), nullable=True))
    op.create_index(
        "uq_model_grant_replaced_key_hash",
        "model_grant",
        ["replaced_key_hash"],
        unique=True,
        sqlite_where=sa.text(CONDITION),
        postgresql_where=sa.text(CONDITION),
    )


def downgrade() -> None:
    op.drop_index("uq_model_grant_replaced_key_hash", "model_grant")
    op.drop_column("model_grant", "replaced_key_hash")
