"""Our own books against each other: subscriptions, assistants, receipts, credit, refunds and the ledger."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven import ledger, metering
from clawhaven.billing import dunning, wallet
from clawhaven.billing.checkouts import Kind
from clawhaven.billing.models import Checkout, Cover, CreditGrant, Dunning, Receipt, Refund, Subscription
from clawhaven.billing.subscriptions import SubscriptionState
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Invalid
from clawhaven.core.money import format_usd
from clawhaven.instances import states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.ledger.models import LedgerAccount, LedgerEntry, LedgerPosting
from clawhaven.workflows.vendors import SETTLE, Difference

FOLLOW, RESUME, REFUND = "follow", "resume", "refund"

PATIENCE = timedelta(minutes=15)
"""Work younger than this is on its way."""

RECENT = timedelta(days=62)
"""Paid periods and credits that are compared: two months back."""


def find_paid_for_nothing(ctx: Context) -> list[Difference]:
    """Living subscriptions whose assistants are all deleted, or that pay for none."""
    now = ctx.clock.now()
    with ctx.db.read() as db:
        query = (
            select(Subscription, Instance.deletion_asked_at, Instance.id)
            .outerjoin(Cover, Cover.subscription_id == Subscription.id)
            .outerjoin(Instance, Instance.id == Cover.instance_id)
            .where(Subscription.state.not_in([SubscriptionState.CANCELED, SubscriptionState.INCOMPLETE]))
            .where(Subscription.created_at < now - PATIENCE)
        )
        covers: defaultdict[str, list[datetime | None]] = defaultdict(list)
        rows: dict[str, Subscription] = {}
        for row, asked_at, instance_id in db.execute(query):
            rows[row.id] = row
            covers[row.id] += [asked_at] if instance_id is not None else []
    found = []
    for row in sorted(rows.values(), key=lambda one: one.id):
        gone = [asked_at for asked_at in covers[row.id] if asked_at is not None]
        if not covers[row.id]:
            problem = f"{row.state}, and pays for no assistant"
            found.append(Difference(row.id, problem, "none; ask the customer", account_id=row.account_id))
        elif len(gone) == len(covers[row.id]) and max(gone) < now - PATIENCE:
            problem = f"{row.state}, and every assistant it paid for is deleted"
            repair = "cancel it at the vendor, and give back what was paid since"
            found.append(Difference(row.id, problem, repair, SETTLE, row.checkout_id, row.account_id))
    return found


def find_wrongly_running(ctx: Context) -> list[Difference]:
    """Assistants that run without being paid for, and those that are down for payment though they are."""
    now, found = ctx.clock.now(), []
    with ctx.db.read() as db:
        query = (
            select(Instance, Subscription)
            .outerjoin(Cover, Cover.instance_id == Instance.id)
            .outerjoin(Subscription, Subscription.id == Cover.subscription_id)
            .where(Instance.state.in_([State.ACTIVE, State.SUSPENDED]), Instance.deletion_asked_at.is_(None))
        )
        pairs = [(instance, row) for instance, row in db.execute(query.order_by(Instance.id))]
        episodes = {one.subscription_id: one for one in db.scalars(select(Dunning).where(Dunning.ended_at.is_(None)))}
    for instance, row in pairs:
        account = instance.account_id
        if row is None:
            if instance.state == State.ACTIVE and (instance.paid_at is None or instance.paid_at < now - PATIENCE):
                told = "none; find out who pays for it, or stop it"
                found.append(Difference(instance.id, "runs, and no subscription pays for it", told, account_id=account))
            continue
        episode = episodes.get(row.id)
        is_late = episode is not None and episode.state == "grace" and episode.suspend_at < now - PATIENCE
        is_paid = dunning.may_run(row, episode) and not is_late
        if instance.state == State.ACTIVE and not is_paid:
            problem = f"runs, and its subscription is {row.state}{', its time of grace over' if is_late else ''}"
            repair = "begin the time of grace, or suspend it"
            found.append(Difference(instance.id, problem, repair, FOLLOW, row.id, account))
        elif is_paid and Reason.PAYMENT in states.reasons(instance):
            problem = f"down for payment, and its subscription is {row.state}"
            found.append(Difference(instance.id, problem, "resume it", RESUME, instance.id, account))
    return found


def find_unbooked(ctx: Context) -> list[Difference]:
    """Receipts without their ledger entries or with another amount, and entries without a receipt."""
    found = []
    with ctx.db.read() as db:
        for prefix in ("payment", "plan"):
            for receipt, booked in _receipts_against(db, prefix):
                problem = f"{format_usd(receipt.amount_micros)} received, {format_usd(booked)} booked as {prefix}"
                found.append(Difference(receipt.id, problem, "none; look at the ledger", account_id=receipt.account_id))
        key = sa.literal("payment:") + Receipt.provider + ":" + Receipt.reference
        strangers = (
            select(LedgerEntry.id, LedgerEntry.idem_key)
            .outerjoin(Receipt, LedgerEntry.idem_key == key)
            .where(LedgerEntry.idem_key.startswith("payment:"), Receipt.id.is_(None))
        )
        for entry_id, idem_key in db.execute(strangers.order_by(LedgerEntry.id)):
            found.append(Difference(entry_id, f"{idem_key} is booked without a receipt", "none; look at the ledger"))
        found += _wrong_refunds(db)
    return found


def find_wrong_credit(ctx: Context) -> list[Difference]:
    """Paid periods without the credit that goes with them, and credit for a period that nobody paid."""
    since, found = ctx.clock.now() - RECENT, []
    with ctx.db.read() as db:
        # Credit first: a period settled between the two looks then lacks its credit, which is mended harmlessly.
        grants = list(
            db.scalars(
                select(CreditGrant).where(CreditGrant.source == "period", CreditGrant.granted_at >= since - RECENT)
            )
        )
        periods = db.execute(
            select(Receipt.period_start_at, Subscription)
            .join(Subscription, Subscription.checkout_id == Receipt.checkout_id)
            .where(Receipt.period_start_at.is_not(None), Receipt.period_start_at >= since - RECENT)
        ).all()
        moved = _plan_changes(db, since)
    given = {one.key for one in grants}
    keys = [f"period:{row.id}:{begun:%Y-%m-%dT%H:%M:%S}" for begun, row in periods]
    paid = set(keys)
    for key, (begun, row) in zip(keys, periods, strict=True):
        # Which plan a period was paid for is the vendor's to say: after a change it may rightly have no credit.
        is_current = begun is not None and begun == row.period_start_at and begun >= since
        is_certain = is_current and begun is not None and not (row.id in moved and moved[row.id] >= begun)
        if is_certain and _has_credit(ctx, row.plan) and key not in given:
            problem = f"the period from {begun:%Y-%m-%d} is paid, and its usage credit was not given"
            repair = "settle it: that gives it"
            found.append(Difference(row.id, problem, repair, SETTLE, row.checkout_id, row.account_id))
    for one in grants:
        if one.granted_at >= since and one.key not in paid:
            problem = f"{format_usd(one.amount_micros)} of usage credit for a period that nobody paid"
            found.append(Difference(one.id, problem, "none; correct the balance", account_id=one.account_id))
    return found


def find_wrong_balances(ctx: Context) -> list[Difference]:
    """Everything in the ledger that does not add up."""
    with ctx.db.read() as db:
        problems = ledger.check_books(db, metering.held_by_calls(db))
    return [Difference("ledger", problem, "none; tell the developers") for problem in problems]


def find_stuck_refunds(ctx: Context) -> list[Difference]:
    """Refunds that were asked for and are not done."""
    with ctx.db.read() as db:
        rows = list(
            db.scalars(
                select(Refund)
                .where(Refund.state == "asked", Refund.created_at < ctx.clock.now() - PATIENCE)
                .order_by(Refund.created_at, Refund.id)
            )
        )
    return [
        Difference(
            row.id,
            f"a refund of {format_usd(row.amount_micros)} was asked for and is not done",
            "ask the vendor for it again, under the same key",
            REFUND,
            row.id,
            row.account_id,
        )
        for row in rows
    ]


def _receipts_against(db: Session, prefix: str) -> list[tuple[Receipt, int]]:
    """Receipts whose entry `<prefix>:<vendor>:<reference>` is missing or of another amount, and what is booked."""
    booked = sa.func.coalesce(sa.func.sum(LedgerPosting.amount_micros), 0)
    key = sa.literal(f"{prefix}:") + Receipt.provider + ":" + Receipt.reference
    is_positive = sa.and_(LedgerPosting.entry_id == LedgerEntry.id, LedgerPosting.amount_micros > 0)
    query = (
        select(Receipt.id, booked)
        .outerjoin(LedgerEntry, LedgerEntry.idem_key == key)
        .outerjoin(LedgerPosting, is_positive)
        .where(Receipt.amount_micros > 0)
        .group_by(Receipt.id, Receipt.amount_micros)
        .having(booked != Receipt.amount_micros)
        .order_by(Receipt.id)
    )
    if prefix == "plan":
        query = query.join(Checkout, Checkout.id == Receipt.checkout_id).where(Checkout.kind == Kind.SUBSCRIPTION)
    return [(db.get_one(Receipt, receipt_id), int(amount)) for receipt_id, amount in db.execute(query).all()]


def _wrong_refunds(db: Session) -> list[Difference]:
    """Checkouts of which the receipts and the ledger say that different sums were given back."""
    returned = (
        select(Receipt.checkout_id, Receipt.account_id, sa.func.sum(Receipt.refunded_micros).label("told"))
        .group_by(Receipt.checkout_id, Receipt.account_id)
        .subquery()
    )
    # What came to us again is an entry of the same kind, the other way.
    booked = (
        select(LedgerEntry.ref, (-sa.func.sum(LedgerPosting.amount_micros)).label("amount"))
        .join(LedgerPosting, LedgerPosting.entry_id == LedgerEntry.id)
        .join(LedgerAccount, LedgerAccount.id == LedgerPosting.ledger_account_id)
        .where(LedgerEntry.kind == "refund", LedgerAccount.kind == wallet.KIND)
        .group_by(LedgerEntry.ref)
        .subquery()
    )
    amount = sa.func.coalesce(booked.c.amount, 0)
    rows = db.execute(
        select(returned.c.checkout_id, returned.c.account_id, returned.c.told, amount)
        .outerjoin(booked, booked.c.ref == returned.c.checkout_id)
        .where(returned.c.told != amount)
    )
    return [
        Difference(
            checkout_id,
            f"{format_usd(int(told))} given back, {format_usd(int(found))} booked as refund",
            "none; look at the ledger",
            account_id=account_id,
        )
        for checkout_id, account_id, told, found in rows
    ]


def _plan_changes(db: Session, since: datetime) -> dict[str, datetime]:
    """Subscription -> when the plan of one of its assistants was last changed since then.

    The one it was bought for counts too: another subscription may pay for it by now.
    """
    covered = select(Cover.subscription_id, Cover.instance_id)
    bought = select(Subscription.id, Subscription.instance_id).where(Subscription.instance_id.is_not(None))
    whose = covered.union(bought).subquery()
    subscription_id, instance_id = whose.c
    query = (
        select(subscription_id, sa.func.max(audit.AuditEntry.at))
        .join(audit.AuditEntry, audit.AuditEntry.subject == instance_id)
        .where(audit.AuditEntry.action == "instance.plan", audit.AuditEntry.at >= since)
        .group_by(subscription_id)
    )
    return dict(db.execute(query).tuples().all())


def _has_credit(ctx: Context, plan_id: str) -> bool:
    try:
        return ctx.plans.get(plan_id).included_credit_micros > 0
    except Invalid:
        return False


LOOKS = (
    find_paid_for_nothing,
    find_wrongly_running,
    find_unbooked,
    find_wrong_credit,
    find_wrong_balances,
    find_stuck_refunds,
)
"""Everything that is compared without asking anybody."""
