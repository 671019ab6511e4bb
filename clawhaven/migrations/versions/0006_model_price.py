"""prices: what calls were admitted at outlives the files it stood in

Revision: 0006, after: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "model_price",
        sa.Column("id", sa.String(length=100), nullable=False),
        sa.Column("model", sa.String(length=100), nullable=False),
        sa.Column("is_own", sa.Boolean(), nullable=False),
        sa.Column("says", sa.JSON(none_as_null=True), nullable=False),
        sa.Column("recorded_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_price")),
    )


def downgrade() -> None:
    op.drop_table("model_price")
