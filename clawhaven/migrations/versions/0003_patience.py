"""money: when to ask again, held renewals, refunds that come back, deadlines of disputes

Revision: 0003, after: 0002
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ASKED = ("checkout", "subscription", "refund", "payment_event")
_TIMES = (
    ("subscription", "paused_at"),
    ("subscription", "held_at"),
    ("receipt", "refunded_at"),
    ("receipt", "dispute_due_at"),
)


def upgrade() -> None:
    for table in _ASKED:
        op.add_column(table, sa.Column("ask_at", UtcDateTime(timezone=True), nullable=True))
        op.add_column(table, sa.Column("asks", sa.BigInteger(), server_default="0", nullable=False))
    for table, name in _TIMES:
        op.add_column(table, sa.Column(name, UtcDateTime(timezone=True), nullable=True))
    op.add_column("receipt", sa.Column("returns", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    raise RuntimeError("what this revision keeps is money; restore a backup instead of going back before it")
