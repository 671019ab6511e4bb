"""What a coupon takes off a running agreement, and until when: told to the customer, worked out by the vendor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.billing.coupons import CouponKind
from clawhaven.billing.models import Checkout, Coupon, Receipt, Subscription
from clawhaven.billing.subscriptions import SubscriptionState
from clawhaven.core.clock import month_after


@dataclass(frozen=True, slots=True)
class Running:
    """A coupon that still takes something off. Exactly one of `percent` and `amount_micros` is set.

    `until_at`: payments before it are less; None: every payment, or with `is_once` the first one, which a trial puts
    off. `is_once`: off one payment only; with `until_at` that one is paid and its period runs until then.
    """

    code: str
    percent: int | None
    amount_micros: int | None
    until_at: datetime | None
    is_once: bool


def running(db: Session, subscription: Subscription, now: datetime) -> Running | None:
    """The coupon this agreement was bought with, as long as it takes something off; None without one, or after it."""
    checkout = db.get(Checkout, subscription.checkout_id)
    coupon = db.get(Coupon, checkout.coupon_id) if checkout is not None and checkout.coupon_id else None
    if coupon is None or subscription.state == SubscriptionState.CANCELED:
        return None
    until = _until(coupon, subscription, _first_paid(db, subscription))
    if until is not None and until <= now:
        return None
    is_percent = coupon.kind == CouponKind.PERCENT
    return Running(
        coupon.id,
        coupon.value if is_percent else None,
        None if is_percent else coupon.value,
        until,
        coupon.months == 0,
    )


def _until(coupon: Coupon, subscription: Subscription, first: Receipt | None) -> datetime | None:
    if coupon.months is None:
        return None
    if coupon.months == 0:
        return first.period_end_at if first is not None else None
    begins = first.period_start_at if first is not None else subscription.trial_end_at
    return month_after(begins or subscription.period_start_at, coupon.months)


def _first_paid(db: Session, subscription: Subscription) -> Receipt | None:
    """The first paid period, with which a coupon begins; a trial has none."""
    paid = select(Receipt).where(Receipt.checkout_id == subscription.checkout_id, Receipt.period_start_at.is_not(None))
    return db.scalars(paid.order_by(Receipt.period_start_at).limit(1)).first()
