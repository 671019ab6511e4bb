"""What the operator sees: everything about one customer, and the business on one page. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.accounts import directory, erasure
from clawhaven.accounts.signup import Owner
from clawhaven.billing import credits, refunds, subscriptions
from clawhaven.billing import wallet as wallets
from clawhaven.billing.checkouts import Kind
from clawhaven.billing.models import Checkout, CreditGrant, Dunning, InboxEvent, Receipt, Refund, Subscription, Wallet
from clawhaven.context import Context
from clawhaven.core.errors import Invalid
from clawhaven.instances.models import Instance
from clawhaven.ledger import Balance, Page
from clawhaven.ledger.models import LedgerEntry
from clawhaven.notices.models import Notice
from clawhaven.workflows import margin
from clawhaven.workflows.access import WALLET
from clawhaven.workflows.margin import Margin

RECENT = 50
"""So many receipts, notices and alerts are shown; the newest."""

TITLES: dict[str, str] = {Kind.TOPUP: "Top-up", Kind.AUTO_TOPUP: "Automatic top-up"}

TAKEN = ("open", "lost")
"""Disputes in which the customer's bank has the money: nothing can be given back."""

STUCK = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment and what it was for. `kind` is the checkout's (subscription, topup, auto_topup); `title` is for people.

    `left_micros`: what can still be given back.
    """

    receipt: Receipt
    kind: str
    title: str
    left_micros: int


@dataclass(frozen=True, slots=True)
class Customer:
    """One account with all that its money touches. Lists are newest first; `trouble` is by subscription.

    `disputed_micros`: the part of what the balance holds that is set aside for open disputes.
    """

    owner: Owner
    is_being_deleted: bool
    balance: Balance | None
    disputed_micros: int
    wallet: Wallet | None
    subscriptions: list[Subscription]
    trouble: dict[str, Dunning]
    payments: list[Payment]
    refunds: list[Refund]
    credits: list[CreditGrant]
    movements: Page
    instances: list[Instance]
    notices: list[Notice]


@dataclass(frozen=True, slots=True)
class Business:
    """The business now. `prepaid_micros` is what customers have paid for and not yet used."""

    accounts: int
    instances: dict[str, int]
    subscriptions: dict[str, int]
    prepaid_micros: int
    month: str
    margin: Margin
    trouble: list[tuple[Dunning, str]]
    """Open trouble with the owner's address, the nearest date first."""
    events_stuck: int
    alerts: list[Notice]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Payment events, newest first, and the cursor of the next page (None: this was the last)."""

    events: list[InboxEvent]
    next_cursor: str | None


def customer(db: Session, ctx: Context, account_id: str, cursor: str | None = None) -> Customer:
    """Everything about one account; `cursor` goes on in its ledger. Raises NotFound, and Invalid for a bad cursor."""
    owner = directory.get(db, account_id)
    trouble = select(Dunning).where(Dunning.account_id == account_id, Dunning.ended_at.is_(None))
    given_back = select(Refund).where(Refund.account_id == account_id)
    instances = select(Instance).where(Instance.account_id == account_id)
    notices = select(Notice).where(Notice.account_id == account_id)
    return Customer(
        owner=owner,
        is_being_deleted=owner.account.deleted_at is not None and erasure.is_under_way(db, account_id),
        balance=wallet_balance(db, account_id),
        disputed_micros=disputed_part(db, account_id),
        wallet=db.get(Wallet, account_id),
        subscriptions=subscriptions.of_account(db, account_id),
        trouble={one.subscription_id: one for one in db.scalars(trouble)},
        payments=_payments(db, ctx, account_id),
        refunds=list(db.scalars(given_back.order_by(Refund.created_at.desc(), Refund.id).limit(RECENT))),
        credits=credits.of_account(db, account_id)[:RECENT],
        movements=ledger.list_entries(db, account_id, cursor, RECENT),
        instances=list(db.scalars(instances.order_by(Instance.created_at.desc(), Instance.id).limit(RECENT))),
        notices=list(db.scalars(notices.order_by(Notice.created_at.desc(), Notice.id).limit(RECENT))),
    )


def business(db: Session, ctx: Context) -> Business:
    """The whole on one page: counts, this month's margin, open trouble, events that wait, alerts."""
    now = ctx.clock.now()
    report = margin.lately.report(ctx)
    trouble = list(
        db.scalars(
            select(Dunning).where(Dunning.ended_at.is_(None)).order_by(Dunning.suspend_at, Dunning.id).limit(RECENT)
        )
    )
    emails = directory.emails_of(db, {one.account_id for one in trouble})
    alerts = (
        select(Notice)
        .where(Notice.kind == "alert", Notice.closed_at.is_(None))
        .order_by(Notice.created_at.desc(), Notice.id)
    )
    return Business(
        accounts=directory.count(db),
        instances=_counts(db, Instance.state),
        subscriptions=_counts(db, Subscription.state),
        prepaid_micros=sum(max(one.balance_micros, 0) for one in ledger.balances(db, WALLET).values()),
        month=report.month,
        margin=report.total,
        trouble=[(one, emails.get(one.account_id, "")) for one in trouble],
        events_stuck=_count_stuck(db, now),
        alerts=list(db.scalars(alerts.limit(RECENT))),
    )


def _payments(db: Session, ctx: Context, account_id: str) -> list[Payment]:
    query = select(Receipt, Checkout).join(Checkout, Checkout.id == Receipt.checkout_id)
    query = query.where(Receipt.account_id == account_id)
    found = db.execute(query.order_by(Receipt.created_at.desc(), Receipt.id).limit(RECENT)).all()
    # The books name the plan of each period; the checkout knows only the one that was bought first.
    booked = select(LedgerEntry.idem_key, LedgerEntry.note)
    booked = booked.where(LedgerEntry.idem_key.in_([_key(receipt) for receipt, _ in found]))
    notes = dict(db.execute(booked).tuples().all())
    asked = refunds.asked(db, account_id)
    return [
        Payment(
            receipt,
            checkout.kind,
            TITLES.get(checkout.kind) or notes.get(_key(receipt)) or _plan_name(ctx, checkout.plan),
            0
            if receipt.dispute in TAKEN
            else max(0, receipt.amount_micros - receipt.refunded_micros - asked.get(receipt.id, 0)),
        )
        for receipt, checkout in found
    ]


def _key(receipt: Receipt) -> str:
    return f"plan:{receipt.provider}:{receipt.reference}"


def _plan_name(ctx: Context, plan_id: str) -> str:
    return ctx.plans.get(plan_id).name if plan_id in ctx.plans else plan_id


def wallet_balance(db: Session, account_id: str) -> Balance | None:
    """An account's prepaid balance; None where it never had one."""
    wallet_id = ledger.account_of(db, WALLET, account_id)
    return ledger.balance(db, wallet_id) if wallet_id else None


def disputed_part(db: Session, account_id: str) -> int:
    """What is set aside of it for open disputes, in micro-dollars."""
    return wallets.set_aside(db, account_id).get(account_id, 0)


def list_events(db: Session, state: str | None = None, cursor: str | None = None, limit: int = 50) -> EventPage:
    """The inbox of payment events, all or those in one state. Raises Invalid for a bad state or cursor."""
    query = select(InboxEvent)
    if state is not None:
        if state not in ("received", "handled", "ignored"):
            raise Invalid("An event is received, handled or ignored.", field="state", reason="unknown")
        query = query.where(InboxEvent.state == state)
    if cursor is not None:
        last = db.get(InboxEvent, cursor)
        if last is None:
            raise Invalid("This cursor is not one of ours.", field="cursor", reason="unknown")
        is_older = InboxEvent.received_at < last.received_at
        is_beside = (InboxEvent.received_at == last.received_at) & (InboxEvent.id < last.id)
        query = query.where(is_older | is_beside)
    order = (InboxEvent.received_at.desc(), InboxEvent.id.desc())
    found = list(db.scalars(query.order_by(*order).limit(limit + 1)))
    return EventPage(found[:limit], found[limit - 1].id if len(found) > limit else None)


def is_stuck(event: InboxEvent, now: datetime) -> bool:
    """True for an event that should have been applied by now."""
    return event.state == "received" and event.received_at < now - STUCK


def _counts(db: Session, column: object) -> dict[str, int]:
    query = select(column, func.count()).group_by(column).order_by(column)  # type: ignore[call-overload]
    return {str(state): int(number) for state, number in db.execute(query)}


def _count_stuck(db: Session, now: datetime) -> int:
    query = select(func.count()).where(InboxEvent.state == "received", InboxEvent.received_at < now - STUCK)
    return int(db.scalar(query) or 0)
