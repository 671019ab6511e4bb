"""Checkouts: opened with the draft, completed by the vendor's word, expired when nobody pays."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.billing import coupons, once, patience
from clawhaven.billing.models import Checkout, InboxEvent, Receipt, Subscription
from clawhaven.billing.plans import Plan
from clawhaven.core.errors import NotFound
from clawhaven.core.ids import new_id
from clawhaven.core.states import Machine
from clawhaven.ports.payments import CheckoutRequest, Discount, VendorPayment

LIFE = timedelta(hours=24)


class CheckoutState(StrEnum):
    """Where a checkout is."""

    OPEN = "open"
    COMPLETED = "completed"
    EXPIRED = "expired"


class Kind(StrEnum):
    """What is paid for."""

    SUBSCRIPTION = "subscription"
    TOPUP = "topup"
    AUTO_TOPUP = "auto_topup"


MACHINE: Machine[CheckoutState] = Machine(
    "checkout",
    Checkout,
    "state",
    {
        CheckoutState.OPEN: frozenset({CheckoutState.COMPLETED, CheckoutState.EXPIRED}),
        # A payment that was under way when the checkout expired is still a payment.
        CheckoutState.EXPIRED: frozenset({CheckoutState.COMPLETED}),
        CheckoutState.COMPLETED: frozenset(),
    },
)


def open_checkout(
    db: Session,
    account_id: str,
    instance_id: str,
    plan: Plan,
    provider: str,
    now: datetime,
    *,
    coupon_id: str | None = None,
    trial_days: int = 0,
) -> Checkout:
    """A new open checkout of a plan for this instance; the vendor's reference is attached later."""
    return _open(
        db,
        Checkout(
            id=new_id("cho"),
            account_id=account_id,
            instance_id=instance_id,
            plan=plan.id,
            provider=provider,
            amount_micros=plan.price_micros,
            state=CheckoutState.OPEN,
            kind=Kind.SUBSCRIPTION,
            coupon_id=coupon_id,
            trial_days=trial_days,
            created_at=now,
        ),
    )


def open_topup(
    db: Session,
    account_id: str,
    amount_micros: int,
    provider: str,
    now: datetime,
    kind: Kind = Kind.TOPUP,
    *,
    checkout_id: str | None = None,
) -> Checkout:
    """A new open checkout that fills the wallet: on a page, or by a charge of the saved method (`auto_topup`)."""
    return _open(
        db,
        Checkout(
            id=checkout_id or new_id("cho"),
            account_id=account_id,
            instance_id=None,
            plan="",
            provider=provider,
            amount_micros=amount_micros,
            state=CheckoutState.OPEN,
            kind=kind,
            created_at=now,
        ),
    )


def request_for(
    checkout: Checkout,
    plan: Plan | None,
    *,
    email: str,
    brand: str,
    base_url: str,
    customer_reference: str | None = None,
    discount: Discount | None = None,
) -> CheckoutRequest:
    """What the vendor is asked for; `plan` None: a top-up. Pure."""
    done = f"/deploying/{checkout.instance_id}?paid=1" if checkout.instance_id else f"/topup/{checkout.id}"
    # Never our own way to the payment page: whoever turns back there would be sent to it again.
    back = f"/deploying/{checkout.instance_id}" if checkout.instance_id else "/topup"
    return CheckoutRequest(
        key=checkout.id,
        email=email,
        description=f"{brand}: {plan.name if plan else 'usage credit'}",
        amount_micros=checkout.amount_micros,
        interval=plan.interval if plan else None,
        success_url=f"{base_url}{done}",
        cancel_url=f"{base_url}{back}",
        metadata={"checkout": checkout.id},
        plan=checkout.plan,
        customer_reference=customer_reference,
        account_id=checkout.account_id,
        trial_days=checkout.trial_days,
        discount=discount,
    )


def attach(db: Session, checkout_id: str, reference: str, url: str) -> Checkout:
    """Record the vendor's reference and page. The first one stays: it may have been paid already."""
    db.execute(
        update(Checkout)
        .where(Checkout.id == checkout_id, Checkout.reference.is_(None))
        .values(reference=reference, url=url)
        .execution_options(synchronize_session=False)
    )
    return db.get_one(Checkout, checkout_id, populate_existing=True)


def by_reference(db: Session, provider: str, reference: str) -> Checkout | None:
    """The checkout a vendor speaks of."""
    return db.scalars(
        select(Checkout).where(Checkout.provider == provider, Checkout.reference == reference)
    ).one_or_none()


_SPOKEN_OF = select(
    func.coalesce(
        select(Checkout.id)
        .where(Checkout.provider == bindparam("provider"), Checkout.reference == bindparam("checkout"))
        .scalar_subquery(),
        select(Subscription.checkout_id)
        .where(Subscription.provider == bindparam("provider"), Subscription.reference == bindparam("subscription"))
        .scalar_subquery(),
        select(Receipt.checkout_id)
        .where(Receipt.provider == bindparam("provider"), Receipt.reference == bindparam("payment"))
        .scalar_subquery(),
    )
)


def spoken_of(db: Session, row: InboxEvent) -> str | None:
    """The id of the checkout that an event names: directly, by its subscription, or by a payment."""
    names = {
        "provider": row.provider,
        "checkout": row.checkout_reference,
        "subscription": row.subscription_reference,
        "payment": row.payment_reference,
    }
    found: str | None = db.connection().execute(_SPOKEN_OF, names).scalar()
    return found


def get(db: Session, checkout_id: str) -> Checkout:
    """Raises NotFound for an unknown id."""
    checkout = db.get(Checkout, checkout_id)
    if checkout is None:
        raise NotFound("There is no such checkout.")
    return checkout


def of_instance(db: Session, instance_id: str) -> Checkout | None:
    """The newest checkout of an instance."""
    return db.scalars(
        select(Checkout).where(Checkout.instance_id == instance_id).order_by(Checkout.created_at.desc()).limit(1)
    ).first()


def of_instances(db: Session, instance_ids: Collection[str]) -> dict[str, Checkout]:
    """The newest checkout of each of these instances that has one."""
    found = select(Checkout).where(Checkout.instance_id.in_(instance_ids)).order_by(Checkout.created_at)
    return {str(row.instance_id): row for row in db.scalars(found)}


def has_trial(db: Session, account_id: str) -> bool:
    """True when a trial was taken, or is offered on a page that can still be paid."""
    query = select(Checkout.id).where(
        Checkout.account_id == account_id, Checkout.trial_days > 0, Checkout.state != CheckoutState.EXPIRED
    )
    return db.scalars(query.limit(1)).first() is not None


def complete(db: Session, checkout_id: str, now: datetime) -> bool:
    """Paid. True the first time."""
    return MACHINE.move(db, checkout_id, CheckoutState.COMPLETED, ended_at=now, last_outcome="paid")


def expire(db: Session, checkout_id: str, now: datetime) -> bool:
    """Not paid in time, or cancelled for good: the coupon and the trial taken with it can be had again. True the first
    time."""
    if not MACHINE.move(db, checkout_id, CheckoutState.EXPIRED, ended_at=now):
        return False
    coupons.release(db, checkout_id)
    once.release(db, checkout_id)
    return True


def overdue(db: Session, now: datetime) -> list[Checkout]:
    """Open checkouts that nobody paid within their life, those first that wait longest to be asked about."""
    is_overdue = (Checkout.state == CheckoutState.OPEN, Checkout.created_at < now - LIFE)
    turn = func.coalesce(Checkout.ask_at, Checkout.created_at)
    query = select(Checkout).where(*is_overdue, patience.is_due(Checkout.ask_at, now))
    return list(db.scalars(query.order_by(turn, Checkout.id).limit(200)))


def unpaid(db: Session, providers: Collection[str], *, before: datetime, now: datetime, limit: int) -> list[Checkout]:
    """Checkouts opened before then whose page may have been paid without our hearing of it, of these vendors: at most
    `limit`, those first that wait longest to be asked about. Not those that are overdue."""
    query = select(Checkout).where(
        Checkout.state == CheckoutState.OPEN,
        Checkout.reference.is_not(None),
        Checkout.provider.in_(providers),
        Checkout.created_at < before,
        Checkout.created_at >= now - LIFE,
        patience.is_due(Checkout.ask_at, now),
    )
    turn = func.coalesce(Checkout.ask_at, Checkout.created_at)
    return list(db.scalars(query.order_by(turn, Checkout.id).limit(limit)))


def note_asked(db: Session, checkout: Checkout, now: datetime) -> None:
    """As billing.patience does it; but no wait goes beyond a checkout's life, and the one after that begins anew."""
    end = checkout.created_at + LIFE
    if checkout.ask_at is not None and checkout.ask_at <= end < now:
        patience.note_answered(checkout)
    patience.note_asked(db, checkout, now)
    if now <= end:
        checkout.ask_at = min(now + patience.wait_after(checkout.asks), end)
        db.flush()


def is_page_missing(db: Session, provider: str) -> bool:
    """True while an open checkout of this vendor has no reference yet: an event may speak of it by that name."""
    query = select(Checkout.id).where(
        Checkout.provider == provider, Checkout.state == CheckoutState.OPEN, Checkout.reference.is_(None)
    )
    return db.scalar(query.limit(1)) is not None


def receipts_of(db: Session, checkout_id: str) -> list[Receipt]:
    """What was paid for a checkout, oldest first."""
    return list(
        db.scalars(select(Receipt).where(Receipt.checkout_id == checkout_id).order_by(Receipt.created_at, Receipt.id))
    )


def receipt_by_reference(db: Session, provider: str, reference: str) -> Receipt | None:
    """The receipt of a vendor's payment."""
    return db.scalars(select(Receipt).where(Receipt.provider == provider, Receipt.reference == reference)).one_or_none()


def add_receipt(
    db: Session, checkout: Checkout, payment: VendorPayment, now: datetime, asked_at: datetime | None = None
) -> tuple[Receipt, bool]:
    """The receipt of a payment, made once per vendor payment reference; True the first time.

    What the vendor tells later (its fee, a dispute, the period) is kept up to date, as far as it was asked for it
    (`asked_at`, default: now) no earlier than for what is there.
    """
    receipt = receipt_by_reference(db, checkout.provider, payment.reference)
    is_new = receipt is None
    if receipt is None:
        receipt = Receipt(
            id=new_id("rcp"),
            account_id=checkout.account_id,
            checkout_id=checkout.id,
            provider=checkout.provider,
            reference=payment.reference,
            amount_micros=payment.amount_micros,
            refunded_micros=0,
            created_at=payment.paid_at or now,
        )
        try:
            with db.begin_nested():
                db.add(receipt)
                db.flush()
        except IntegrityError:
            # Two settlements at once: the other one has booked it.
            receipt = db.scalars(
                select(Receipt).where(Receipt.provider == checkout.provider, Receipt.reference == payment.reference)
            ).one()
            is_new = False
    if payment.fee_micros is not None:
        receipt.fee_micros = payment.fee_micros
    asked_at = asked_at or now
    if is_new or not is_older(receipt, asked_at):
        receipt.period_start_at, receipt.period_end_at = payment.period_start, payment.period_end
        # Who cannot tell what was given back has not seen the charge: nothing is known of its disputes either.
        if payment.refunded_micros is not None:
            receipt.told_at = asked_at
            receipt.dispute, receipt.dispute_due_at = payment.dispute, payment.dispute_due_at
            receipt.disputed_micros = payment.disputed_micros
    db.flush()
    return receipt, is_new


def is_older(receipt: Receipt, asked_at: datetime) -> bool:
    """True when the vendor was asked at `asked_at`, and later for what the receipt says."""
    return receipt.told_at is not None and asked_at < receipt.told_at


def mark_charged(db: Session, checkout_id: str, now: datetime) -> bool:
    """Write down, before the vendor is asked, that it may charge for this. False: it is not open any more."""
    marked = db.execute(
        update(Checkout)
        .where(Checkout.id == checkout_id, Checkout.state == CheckoutState.OPEN)
        .values(charged_at=now)
        .returning(Checkout.id)
        .execution_options(synchronize_session=False)
    )
    return marked.first() is not None


def _open(db: Session, checkout: Checkout) -> Checkout:
    db.add(checkout)
    db.flush()
    return checkout
