"""held_tokens: what a call under way can use at most, for the limit of tokens a day

Revision: 0019, after: 0018
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("usage", sa.Column("held_tokens", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("usage", "held_tokens")
