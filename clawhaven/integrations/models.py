"""Tables of the integrations room. Tokens are sealed; what an assistant shows us is kept as a hash beside its seal."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from clawhaven.core.db import Base


class Integration(Base):
    """A customer's account at a vendor. `subject` is the vendor's id of it, `address` what its owner calls it.

    `scopes`: what was granted, space-separated. `lapsed_at`: the vendor takes the tokens no more; its owner has to
    connect again.
    """

    __tablename__ = "integration"
    __table_args__ = (
        sa.UniqueConstraint("account_id", "vendor", name="uq_integration_account_id"),
        sa.Index("ix_integration_vendor", "vendor", "subject"),
    )

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.String(40))
    vendor: Mapped[str] = mapped_column(sa.String(40))
    subject: Mapped[str] = mapped_column(sa.String(255))
    address: Mapped[str] = mapped_column(sa.String(320))
    scopes: Mapped[str] = mapped_column(sa.Text)
    sealed_refresh: Mapped[str] = mapped_column(sa.Text)
    sealed_access: Mapped[str] = mapped_column(sa.Text)
    access_expires_at: Mapped[datetime]
    connected_at: Mapped[datetime]
    lapsed_at: Mapped[datetime | None]


class IntegrationAttempt(Base):
    """Somebody was sent to a vendor's consent page and may come back with this state, once.

    `session_id`: the sign-in that began it; None when a program did, then any sign-in of the account may end it.
    """

    __tablename__ = "integration_attempt"

    state_hash: Mapped[str] = mapped_column(sa.String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.String(40), index=True)
    vendor: Mapped[str] = mapped_column(sa.String(40))
    session_id: Mapped[str | None] = mapped_column(sa.String(40))
    sealed_verifier: Mapped[str] = mapped_column(sa.Text)
    back_to: Mapped[str] = mapped_column(sa.String(300))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class IntegrationAttachment(Base):
    """An assistant that may read an integration. Its gateway shows a token of its own, which opens nothing else."""

    __tablename__ = "integration_attachment"

    instance_id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    vendor: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    integration_id: Mapped[str] = mapped_column(sa.String(40), index=True)
    token_hash: Mapped[str] = mapped_column(sa.String(64), unique=True)
    sealed_token: Mapped[str] = mapped_column(sa.Text)
    attached_at: Mapped[datetime]


class IntegrationRevocation(Base):
    """A token that its vendor has yet to forget. The row goes when the vendor says so.

    `asked_at`: the vendor is not told before; it is in the future while a consent that may need the row gone is kept.
    """

    __tablename__ = "integration_revocation"

    id: Mapped[str] = mapped_column(sa.String(40), primary_key=True)
    account_id: Mapped[str] = mapped_column(sa.String(40), index=True)
    vendor: Mapped[str] = mapped_column(sa.String(40))
    subject: Mapped[str] = mapped_column(sa.String(255))
    sealed_token: Mapped[str] = mapped_column(sa.Text)
    asked_at: Mapped[datetime]
