"""certainty: whether a charge may have been made, when a payment was last told of, how much of it is disputed

Revision: 0020, after: 0019
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("checkout", sa.Column("charged_at", UtcDateTime(timezone=True), nullable=True))
    # Whether these were charged is not known: they count as such until their vendor was asked.
    op.execute("UPDATE checkout SET charged_at = created_at WHERE kind = 'auto_topup' AND state = 'open'")
    op.add_column("receipt", sa.Column("told_at", UtcDateTime(timezone=True), nullable=True))
    op.add_column("receipt", sa.Column("disputed_micros", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("receipt", "disputed_micros")
    op.drop_column("receipt", "told_at")
    op.drop_column("checkout", "charged_at")
