"""restores: which backup an operation brings back, and how much may be unpacked from a backup

Revision: 0018, after: 0017
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("operation", sa.Column("backup_id", sa.String(40), nullable=True))
    op.add_column("backup", sa.Column("most_bytes", sa.BigInteger(), nullable=True))


def downgrade() -> None:
    op.drop_column("backup", "most_bytes")
    op.drop_column("operation", "backup_id")
