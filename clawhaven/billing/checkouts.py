"""Checkouts: opened with the draft, completed by the vendor's word, expired when nobody pays."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from clawhaven.billing.models import Checkout, Receipt
from clawhaven.billing.plans import Plan
from clawhaven.core.errors import NotFound
from clawhaven.core.ids import new_id
from clawhaven.core.states import Machine
from clawhaven.ports.payments import CheckoutRequest

LIFE = timedelta(hours=24)


class CheckoutState(StrEnum):
    """Where a checkout is."""

    OPEN = "open"
    COMPLETED = "completed"
    EXPIRED = "expired"


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


def open_checkout(db: Session, account_id: str, instance_id: str, plan: Plan, provider: str, now: datetime) -> Checkout:
    """A new open checkout for this instance; the vendor's reference is attached later."""
    checkout = Checkout(
        id=new_id("cho"),
        account_id=account_id,
        instance_id=instance_id,
        plan=plan.id,
        provider=provider,
        amount_micros=plan.price_micros,
        state=CheckoutState.OPEN,
        created_at=now,
    )
    db.add(checkout)
    db.flush()
    return checkout


def request_for(checkout: Checkout, plan: Plan, *, email: str, brand: str, base_url: str) -> CheckoutRequest:
    """What the vendor is asked for. Pure."""
    return CheckoutRequest(
        key=checkout.id,
        email=email,
        description=f"{brand}: {plan.name}",
        amount_micros=checkout.amount_micros,
        interval=plan.interval,
        success_url=f"{base_url}/deploying/{checkout.instance_id}",
        cancel_url=f"{base_url}/checkout/{checkout.id}",
        metadata={"checkout": checkout.id},
    )


def attach(db: Session, checkout_id: str, reference: str, url: str) -> Checkout:
    """Record the vendor's reference and page; the same again is success."""
    checkout = db.get_one(Checkout, checkout_id)
    checkout.reference, checkout.url = reference, url
    db.flush()
    return checkout


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


def complete(db: Session, checkout_id: str, now: datetime) -> bool:
    """Paid. True the first time."""
    return MACHINE.move(db, checkout_id, CheckoutState.COMPLETED, ended_at=now, last_outcome="paid")


def expire(db: Session, checkout_id: str, now: datetime) -> bool:
    """Not paid in time, or cancelled for good. True the first time."""
    return MACHINE.move(db, checkout_id, CheckoutState.EXPIRED, ended_at=now)


def overdue(db: Session, now: datetime) -> list[Checkout]:
    """Open checkouts that nobody paid within their life."""
    return list(
        db.scalars(
            select(Checkout).where(Checkout.state == CheckoutState.OPEN, Checkout.created_at < now - LIFE).limit(200)
        )
    )


def receipts_of(db: Session, checkout_id: str) -> list[Receipt]:
    """What was paid for a checkout."""
    return list(db.scalars(select(Receipt).where(Receipt.checkout_id == checkout_id).order_by(Receipt.created_at)))


def add_receipt(db: Session, checkout: Checkout, reference: str, amount_micros: int, now: datetime) -> bool:
    """Book a payment once per vendor payment reference; True the first time."""
    receipt = Receipt(
        id=new_id("rcp"),
        account_id=checkout.account_id,
        checkout_id=checkout.id,
        provider=checkout.provider,
        reference=reference,
        amount_micros=amount_micros,
        created_at=now,
    )
    try:
        with db.begin_nested():
            db.add(receipt)
            db.flush()
    except IntegrityError:
        return False
    return True
