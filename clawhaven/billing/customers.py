"""Who an account is at a payment vendor: one customer per account and vendor, so that a saved card is found again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.billing.models import Customer


def remember(db: Session, account_id: str, provider: str, reference: str, now: datetime) -> None:
    """Keep the vendor's customer of this account; the first one told stays. One of another account is left alone."""
    if find(db, account_id, provider) is not None or account_of(db, provider, reference) is not None:
        return
    db.add(Customer(account_id=account_id, provider=provider, reference=reference, created_at=now))
    db.flush()


def find(db: Session, account_id: str, provider: str) -> str | None:
    """The vendor's reference of this account's customer, or None."""
    return db.scalar(select(Customer.reference).where(Customer.account_id == account_id, Customer.provider == provider))


def all_of(db: Session, account_id: str) -> dict[str, str]:
    """Vendor -> reference of this account's customer there."""
    mine = select(Customer.provider, Customer.reference).where(Customer.account_id == account_id)
    return dict(db.execute(mine.order_by(Customer.provider)).tuples().all())


def account_of(db: Session, provider: str, reference: str) -> str | None:
    """The account a vendor's customer belongs to, or None."""
    return db.scalar(select(Customer.account_id).where(Customer.provider == provider, Customer.reference == reference))
