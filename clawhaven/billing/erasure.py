"""What a deleted account leaves in billing: amounts, dates and the vendors' references, which the books need; no
vendor's customer, no page that could be opened, no event's body, which carries name and address. That somebody has had
a trial or a coupon stays too, as a fingerprint that nobody reads an address from (once.py)."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from clawhaven.billing import checkouts
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout, Customer, InboxEvent, Receipt, Subscription, Waiting, Wallet


def close(db: Session, account_id: str, now: datetime) -> None:
    """Nothing is charged from now on, and no page waits to be paid. The agreements themselves end at the vendors."""
    db.execute(update(Wallet).where(Wallet.account_id == account_id).values(is_auto=False))
    waiting = select(Checkout.id).where(Checkout.account_id == account_id, Checkout.state == CheckoutState.OPEN)
    for checkout_id in db.scalars(waiting.order_by(Checkout.id)).all():
        checkouts.expire(db, checkout_id, now)


def booked_ids(db: Session, account_id: str) -> list[str]:
    """The ids of an account's checkouts, agreements and receipts."""
    return [
        one
        for model in (Checkout, Subscription, Receipt)
        for one in db.scalars(select(model.id).where(model.account_id == account_id).order_by(model.id))
    ]


def erase(db: Session, account_id: str, email: str | None, theirs_before: datetime | None) -> None:
    """Take out what tells who the customer was. A place that waits for the address goes when it was taken before
    `theirs_before`; None: nobody had proved that it was theirs."""
    db.execute(delete(Customer).where(Customer.account_id == account_id))
    db.execute(update(Checkout).where(Checkout.account_id == account_id).values(url=None))
    db.execute(update(Subscription).where(Subscription.account_id == account_id).values(pay_url=None))
    if email is not None and theirs_before is not None:
        db.execute(delete(Waiting).where(Waiting.email == email, Waiting.created_at < theirs_before))
    erase_events(db, [account_id])


def erase_events(db: Session, account_ids: Collection[str]) -> int:
    """Empty the bodies of applied payment events about these accounts; returns how many. One that waits stays whole."""
    ids = list(account_ids)
    bought = select(Checkout.id).where(Checkout.account_id.in_(ids))
    pages = select(Checkout.reference).where(Checkout.account_id.in_(ids), Checkout.reference.is_not(None))
    agreed = select(Subscription.reference).where(Subscription.account_id.in_(ids))
    paid = select(Receipt.reference).where(Receipt.account_id.in_(ids))
    about = or_(
        InboxEvent.checkout_key.in_(bought),
        InboxEvent.checkout_reference.in_(pages),
        InboxEvent.subscription_reference.in_(agreed),
        InboxEvent.payment_reference.in_(paid),
    )
    is_applied = (InboxEvent.state != "received", InboxEvent.body != b"")
    done = db.execute(update(InboxEvent).where(about, *is_applied).values(body=b"", note=""))
    return int(getattr(done, "rowcount", 0))
