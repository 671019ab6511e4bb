"""Coupons: usage credit for the wallet, or something off a subscription's price. Each is used once per account."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import delete, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from clawhaven.billing.models import Coupon, Redemption
from clawhaven.core import cursors
from clawhaven.core.errors import Conflict, Invalid, NotFound
from clawhaven.core.money import MICROS_PER_CENT, MICROS_PER_DOLLAR
from clawhaven.ledger.entries import insert_once
from clawhaven.ports.payments import Discount

CODE = re.compile(r"[A-Z0-9][A-Z0-9-]{2,39}")
MAX_MICROS = 100_000 * MICROS_PER_DOLLAR
MAX_MONTHS = 120


class CouponKind(StrEnum):
    """What a coupon gives: micro-dollars to the wallet, per cents off, or micro-dollars off."""

    CREDIT = "credit"
    PERCENT = "percent"
    AMOUNT = "amount"


def create(
    db: Session,
    code: str,
    kind: str,
    value: int,
    *,
    now: datetime,
    months: int | None = 0,
    max_redemptions: int | None = None,
    expires_at: datetime | None = None,
) -> Coupon:
    """A new coupon; the table says what `value` and `months` mean. Raises Invalid naming the field, and Conflict."""
    name = code.strip().upper()
    if not CODE.fullmatch(name):
        raise _invalid("code", "A code is 3 to 40 letters, digits and hyphens.")
    if kind not in set(CouponKind):
        raise _invalid("kind", f"A coupon is of the kind {', '.join(CouponKind)}.")
    if kind == CouponKind.PERCENT and not 1 <= value <= 100:
        raise _invalid("value", "A percentage is a whole number from 1 to 100.")
    if kind != CouponKind.PERCENT and (not 0 < value <= MAX_MICROS or value % MICROS_PER_CENT):
        raise _invalid("value", "An amount is positive, in whole cents, and at most $100,000.")
    if months is not None and not 0 <= months <= MAX_MONTHS:
        raise _invalid("months", f"Months are 0 (the first period) to {MAX_MONTHS}, or none for every period.")
    if max_redemptions is not None and max_redemptions < 1:
        raise _invalid("max_redemptions", "A coupon is for at least one account.")
    if expires_at is not None and expires_at <= now:
        raise _invalid("expires_at", "This time is over already.")
    values = {
        "id": name,
        "kind": kind,
        "value": value,
        "months": months if kind != CouponKind.CREDIT else 0,
        "max_redemptions": max_redemptions,
        "redeemed": 0,
        "expires_at": expires_at,
        "created_at": now,
    }
    if insert_once(db, Coupon, values, "id") is None:
        raise Conflict(f"The code {name} exists already.", field="code")
    return get(db, name)


def get(db: Session, coupon_id: str) -> Coupon:
    """The coupon with this code, usable or not. Raises NotFound."""
    coupon = db.get(Coupon, coupon_id.strip().upper()[:40], populate_existing=True)
    if coupon is None:
        raise NotFound("There is no such coupon.")
    return coupon


@dataclass(frozen=True, slots=True)
class Page:
    """Coupons, newest first, and the cursor of the next page (None: this was the last)."""

    coupons: list[Coupon]
    next_cursor: str | None


def list_coupons(db: Session, cursor: str | None = None, limit: int = 50) -> Page:
    """All coupons, newest first. Raises Invalid for a bad cursor."""
    query = select(Coupon)
    if cursor is not None:
        query = query.where(cursors.is_after(cursor, Coupon.created_at, Coupon.id))
    found = list(db.scalars(query.order_by(Coupon.created_at.desc(), Coupon.id.desc()).limit(limit + 1)))
    last = found[limit - 1] if len(found) > limit else None
    return Page(found[:limit], cursors.write(last.created_at, last.id) if last is not None else None)


def disable(db: Session, coupon_id: str, now: datetime) -> bool:
    """Nobody can use it from now on; what it gave stays. False: it was disabled already. Raises NotFound."""
    coupon = get(db, coupon_id)
    if coupon.disabled_at is not None:
        return False
    coupon.disabled_at = now
    db.flush()
    return True


def check(db: Session, code: str, account_id: str | None, now: datetime) -> Coupon:
    """The coupon behind a code that this account (None: somebody new) may use now. Raises Invalid saying why not."""
    coupon = db.get(Coupon, code.strip().upper()[:40], populate_existing=True)
    if coupon is None:
        raise _refused("This code is not known. Check its spelling.", "unknown")
    if coupon.disabled_at is not None or (coupon.expires_at is not None and coupon.expires_at <= now):
        raise _refused("This coupon is no longer valid.", "expired")
    if account_id is not None and db.get(Redemption, (coupon.id, account_id)) is not None:
        raise _refused("You have used this coupon already.", "used")
    if coupon.max_redemptions is not None and coupon.redeemed >= coupon.max_redemptions:
        raise _refused("This coupon has been used up.", "used up")
    return coupon


def redeem(db: Session, coupon_id: str, account_id: str, checkout_id: str | None, now: datetime) -> bool:
    """Use a coupon for this account. True the first time; False when the account used it before, or when it is used
    up, disabled or expired by now. Of many at once no more than `max_redemptions` get True."""
    taken = update(Coupon).where(
        Coupon.id == coupon_id,
        Coupon.disabled_at.is_(None),
        or_(Coupon.expires_at.is_(None), Coupon.expires_at > now),
        or_(Coupon.max_redemptions.is_(None), Coupon.redeemed < Coupon.max_redemptions),
    )
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"coupon_id": coupon_id, "account_id": account_id, "checkout_id": checkout_id, "created_at": now}
    used = insert(Redemption).values(**values).on_conflict_do_nothing().returning(Redemption.account_id)
    taken = taken.values(redeemed=Coupon.redeemed + 1).returning(Coupon.id)
    try:
        with db.begin_nested():
            # The coupon's row first: the foreign key of the redemption shares a lock that is dear to upgrade.
            has_place = db.execute(taken.execution_options(synchronize_session=False)).first() is not None
            if not has_place or db.execute(used).first() is None:
                raise _NoPlace
    except _NoPlace:
        return False
    return True


def count(db: Session, coupon_id: str, account_id: str, checkout_id: str, now: datetime) -> bool:
    """This checkout has had the coupon's discount, whatever has become of the coupon since. True the first time; no
    redemption is counted twice, and none of the account's other ones."""
    db.execute(select(Coupon.id).where(Coupon.id == coupon_id).with_for_update())
    insert = sqlite.insert if db.get_bind().dialect.name == "sqlite" else postgresql.insert
    values = {"coupon_id": coupon_id, "account_id": account_id, "checkout_id": checkout_id, "created_at": now}
    used = insert(Redemption).values(**values).on_conflict_do_nothing().returning(Redemption.account_id)
    if db.execute(used).first() is None:
        return False
    taken = update(Coupon).where(Coupon.id == coupon_id).values(redeemed=Coupon.redeemed + 1)
    db.execute(taken.execution_options(synchronize_session=False))
    return True


def release(db: Session, checkout_id: str) -> bool:
    """Nobody paid this checkout: the coupon redeemed with it can be used again. True the first time."""
    used = db.scalars(select(Redemption).where(Redemption.checkout_id == checkout_id)).first()
    if used is None:
        return False
    # The coupon's row first, as in `redeem`: two that wait for each other would be one too many.
    db.execute(select(Coupon.id).where(Coupon.id == used.coupon_id).with_for_update())
    gone = delete(Redemption).where(
        Redemption.coupon_id == used.coupon_id,
        Redemption.account_id == used.account_id,
        Redemption.checkout_id == checkout_id,
    )
    deleted = db.execute(gone.returning(Redemption.coupon_id).execution_options(synchronize_session="fetch")).first()
    if deleted is None:
        return False
    given_back = update(Coupon).where(Coupon.id == used.coupon_id, Coupon.redeemed > 0)
    db.execute(given_back.values(redeemed=Coupon.redeemed - 1).execution_options(synchronize_session=False))
    return True


def as_discount(coupon: Coupon) -> Discount:
    """What a payment vendor is told of a coupon for a subscription. ValueError for one that fills the wallet."""
    if coupon.kind == CouponKind.PERCENT:
        return Discount(coupon.id, percent_off=coupon.value, months=coupon.months)
    if coupon.kind == CouponKind.AMOUNT:
        return Discount(coupon.id, amount_off_micros=coupon.value, months=coupon.months)
    raise ValueError(f"the coupon {coupon.id} takes nothing off a subscription")


class _NoPlace(Exception):
    """Takes a redemption back that found no place, or a second one of an account."""


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(message, field=field, reason="invalid")


def _refused(message: str, reason: str) -> Invalid:
    return Invalid(message, field="coupon", reason=reason)
