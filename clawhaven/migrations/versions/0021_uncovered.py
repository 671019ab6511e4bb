"""uncovered: calls that cost more than hold and wallet had, found without reading the others

Revision: 0021, after: 0020
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

CONDITION = "uncovered_micros > 0"


def upgrade() -> None:
    op.create_index(
        "ix_usage_uncovered",
        "usage",
        ["started_at"],
        sqlite_where=sa.text(CONDITION),
        postgresql_where=sa.text(CONDITION),
    )


def downgrade() -> None:
    op.drop_index("ix_usage_uncovered", "usage")
