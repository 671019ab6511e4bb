"""Checkouts: opened with the draft, completed by the vendor's word, expired when nobody pays."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.billing import patience
from clawhaven.billing.models import Checkout, Receipt
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
    return CheckoutRequest(
        key=checkout.id,
        email=email,
        description=f"{brand}: {plan.name if plan else 'usage credit'}",
        amount_micros=checkout.amount_micros,
        interval=plan.interval if plan else None,
        success_url=f"{base_url}{done}",
        cancel_url=f"{base_url}/checkout/{checkout.id}",
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
    """Not paid in time, or cancelled for good. True the first time."""
    return MACHINE.move(db, checkout_id, CheckoutState.EXPIRED, ended_at=now)


def overdue(db: Session, now: datetime) -> list[Checkout]:
    """Open checkouts that nobody paid within their life, those first that wait longest to be asked about."""
    is_overdue = (Checkout.state == CheckoutState.OPEN, Checkout.created_at < now - LIFE)
    turn = func.coalesce(Checkout.ask_at, Checkout.created_at)
    query = select(Checkout).where(*is_overdue, patience.is_due(Checkout.ask_at, now))
    return list(db.scalars(query.order_by(turn, Checkout.id).limit(200)))


def receipts_of(db: Session, checkout_id: str) -> list[Receipt]:
    """What was paid for a checkout, oldest first."""
    return list(
        db.scalars(select(Receipt).where(Receipt.checkout_id == checkout_id).order_by(Receipt.created_at, Receipt.id))
    )


def receipt_by_reference(db: Session, provider: str, reference: str) -> Receipt | None:
    """The receipt of a vendor's payment."""
    return db.scalars(select(Receipt).where(Receipt.provider == provider, Receipt.reference == reference)).one_or_none()


def add_receipt(db: Session, checkout: Checkout, payment: VendorPayment, now: datetime) -> tuple[Receipt, bool]:
    """The receipt of a payment, made once per vendor payment reference; True the first time.

    What the vendor tells later (its fee, a dispute, the period) is kept up to date.
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
    receipt.dispute, receipt.dispute_due_at = payment.dispute, payment.dispute_due_at
    receipt.period_start_at, receipt.period_end_at = payment.period_start, payment.period_end
    db.flush()
    return receipt, is_new


def _open(db: Session, checkout: Checkout) -> Checkout:
    db.add(checkout)
    db.flush()
    return checkout
