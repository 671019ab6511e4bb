"""persons: what somebody gets once whatever account they use, and the language they are written to

Revision: 0011, after: 0010
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "once_per_person",
        sa.Column("what", sa.String(length=60), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("checkout_id", sa.String(length=40), nullable=True),
        sa.Column("taken_at", UtcDateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("what", "person", name=op.f("pk_once_per_person")),
    )
    op.create_index(op.f("ix_once_per_person_checkout_id"), "once_per_person", ["checkout_id"])
    op.add_column("user_account", sa.Column("language", sa.String(length=10), nullable=True))


def downgrade() -> None:
    op.drop_column("user_account", "language")
    op.drop_table("once_per_person")
