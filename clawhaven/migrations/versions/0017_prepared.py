"""prepared: since when somebody is to look at what was made under their address before they proved it

Revision: 0017, after: 0016
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from clawhaven.core.db import UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("user_account", sa.Column("review_asked_at", UtcDateTime(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("user_account", "review_asked_at")
