"""What a month left the operator: revenue, and what it cost, per customer and in total.

Subscriptions count when they are paid, usage when it is used; a top-up is the customer's money until then. Credit
counts as a cost when it is given and comes back when it expires: what it pays for is in the usage revenue.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

import sqlalchemy as sa
from sqlalchemy.orm import Session

from clawhaven.accounts import directory
from clawhaven.billing.checkouts import Kind
from clawhaven.billing.models import Checkout, Receipt
from clawhaven.context import Context
from clawhaven.core.db import Database
from clawhaven.core.money import format_usd
from clawhaven.instances.models import Instance, InstanceEvent
from clawhaven.ledger.models import LedgerAccount, LedgerEntry, LedgerPosting
from clawhaven.ledger.statement import month_of
from clawhaven.metering.models import CallState, PlanMode, UsageRow
from clawhaven.workflows.access import WALLET

CREDITS = ("included_credit", "coupon", "credit", "credit_expired", "correction")
"""Kinds of ledger entries that give credit, or take it back."""

LARGE = 200
"""From so many customers on a report is kept for a while."""

KEPT = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Margin:
    """One customer's month, or (account_id empty) everybody's. All amounts in micro-dollars.

    `fees_estimated_micros`: the part of `fees_micros` that is by a vendor's price list. `fees_unknown`: payments of a
    vendor that tells neither; they count as free of fees.
    `uncovered_micros`: usage that neither hold nor wallet covered and nobody paid for, at the customer's price; what it
    cost the operator is in `model_micros`, the list price of all calls but those with own keys. `topups_micros` are
    deposits, not revenue.
    """

    account_id: str
    email: str
    subscription_micros: int = 0
    usage_micros: int = 0
    refunded_micros: int = 0
    fees_micros: int = 0
    fees_estimated_micros: int = 0
    fees_unknown: int = 0
    model_micros: int = 0
    server_micros: int = 0
    credits_micros: int = 0
    topups_micros: int = 0
    uncovered_micros: int = 0

    @property
    def revenue_micros(self) -> int:
        """What customers paid for, less what was given back of it."""
        return self.subscription_micros + self.usage_micros - self.refunded_micros

    @property
    def costs_micros(self) -> int:
        """Fees, model, servers, and credit given."""
        return self.fees_micros + self.model_micros + self.server_micros + self.credits_micros

    @property
    def margin_micros(self) -> int:
        """What is left."""
        return self.revenue_micros - self.costs_micros

    @property
    def percent(self) -> int | None:
        """The margin of the revenue, in whole per cent; None without revenue."""
        return None if self.revenue_micros <= 0 else round(100 * self.margin_micros / self.revenue_micros)

    @property
    def remark(self) -> str:
        """Why the margin is negative or above 100 %: a sentence with what caused it; empty for any other."""
        if self.margin_micros > self.revenue_micros:
            back = format_usd(-self.credits_micros)
            return f"More is left than came in: {back} of credit given earlier ended unused or was taken back."
        if self.margin_micros >= 0:
            return ""
        parts = {
            "what the models cost": self.model_micros,
            "credit that was given": self.credits_micros,
            "what the servers cost": self.server_micros,
            "payment fees": self.fees_micros,
            "money given back": self.refunded_micros,
        }
        name, amount = max(parts.items(), key=lambda one: one[1])
        return f"More went out than came in; the largest part is {name}, {format_usd(amount)}."


@dataclass(frozen=True, slots=True)
class Report:
    """A month (`2026-11`, UTC): a line per customer with any figure, the largest margin first, and the total."""

    month: str
    since: datetime
    until: datetime
    lines: list[Margin]
    total: Margin
    made_at: datetime


class Lately:
    """Reports of large installations, kept for a minute: each reads every call of its month. Threads may share it."""

    def __init__(self) -> None:
        self._kept = WeakKeyDictionary[Database, dict[str, Report]]()
        self._mutex = threading.Lock()

    def report(self, ctx: Context, month: str = "") -> Report:
        """`report`, perhaps as it was up to a minute ago (`made_at`). Raises Invalid."""
        now = ctx.clock.now()
        with self._mutex:
            found = self._kept.setdefault(ctx.db, {}).get(month)
        if found is not None and now - KEPT < found.made_at <= now:
            return found
        with ctx.db.read() as db:
            fresh = report(db, ctx, month)
        with self._mutex:
            if len(fresh.lines) >= LARGE:
                self._kept[ctx.db] = {**dict(list(self._kept[ctx.db].items())[-12:]), month: fresh}
            else:
                self._kept[ctx.db].pop(month, None)
        return fresh


lately = Lately()


def report(db: Session, ctx: Context, month: str = "") -> Report:
    """The margin of a month (default: this one, so far). Five queries, however many customers. Raises Invalid."""
    now = ctx.clock.now()
    month = month or f"{now:%Y-%m}"
    since, until = month_of(month)
    figures: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    _add_receipts(db, ctx, figures, since, until)
    _add_movements(db, figures, since, until)
    _add_usage(db, figures, since, until)
    _add_servers(db, figures, since, until, now, ctx.settings.micros("instance_cost"))
    emails = directory.emails_of(db, set(figures))
    lines = [Margin(account_id, emails.get(account_id, ""), **found) for account_id, found in figures.items()]
    lines = [line for line in lines if any(figures[line.account_id].values())]
    total: dict[str, int] = defaultdict(int)
    for line in lines:
        for name, value in figures[line.account_id].items():
            total[name] += value
    ranked = sorted(lines, key=lambda line: (-line.margin_micros, line.email))
    return Report(month, since, until, ranked, Margin("", "", **total), now)


Figures = dict[str, dict[str, int]]


def _add_receipts(db: Session, ctx: Context, figures: Figures, since: datetime, until: datetime) -> None:
    is_untold = Receipt.fee_micros.is_(None) & (Receipt.amount_micros > 0)
    rows = db.execute(
        sa.select(
            Receipt.account_id,
            Receipt.provider,
            Checkout.kind,
            sa.func.sum(Receipt.amount_micros),
            sa.func.sum(sa.func.coalesce(Receipt.fee_micros, 0)),
            sa.func.sum(sa.case((is_untold, 1), else_=0)),
            sa.func.sum(sa.case((is_untold, Receipt.amount_micros), else_=0)),
        )
        .join(Checkout, Checkout.id == Receipt.checkout_id)
        .where(Receipt.created_at >= since, Receipt.created_at < until)
        .group_by(Receipt.account_id, Receipt.provider, Checkout.kind)
    )
    for account_id, provider, kind, amount, fees, untold, untold_amount in rows:
        one = figures[account_id]
        one["subscription_micros" if kind == Kind.SUBSCRIPTION else "topups_micros"] += int(amount)
        rate = ctx.payments[provider].fee_rate if provider in ctx.payments else None
        estimated = rate.of(int(untold_amount), int(untold)) if rate else 0
        one["fees_micros"] += int(fees) + estimated
        one["fees_estimated_micros"] += estimated
        one["fees_unknown"] += 0 if rate else int(untold)


def _add_movements(db: Session, figures: Figures, since: datetime, until: datetime) -> None:
    """Plans returned, and credit given less what expired, by the books."""
    rows = db.execute(
        sa.select(LedgerAccount.owner_id, LedgerEntry.kind, sa.func.sum(LedgerPosting.amount_micros))
        .join(LedgerPosting, LedgerPosting.ledger_account_id == LedgerAccount.id)
        .join(LedgerEntry, LedgerEntry.id == LedgerPosting.entry_id)
        .where(
            LedgerAccount.kind == WALLET,
            LedgerEntry.kind.in_([*CREDITS, "plan_returned"]),
            LedgerEntry.created_at >= since,
            LedgerEntry.created_at < until,
        )
        .group_by(LedgerAccount.owner_id, LedgerEntry.kind)
    )
    for account_id, kind, amount in rows:
        name = "refunded_micros" if kind == "plan_returned" else "credits_micros"
        figures[account_id][name] += int(amount)


def _add_usage(db: Session, figures: Figures, since: datetime, until: datetime) -> None:
    row = UsageRow
    charged = sa.case((row.plan_mode == PlanMode.METERED.value, row.price_micros), else_=0)
    rows = db.execute(
        sa.select(
            row.account_id,
            sa.func.sum(charged),
            sa.func.sum(row.provider_cost_micros),
            sa.func.sum(row.uncovered_micros),
        )
        .where(row.started_at >= since, row.started_at < until, row.state != CallState.ABANDONED.value)
        .group_by(row.account_id)
    )
    for account_id, price, cost, uncovered in rows:
        figures[account_id]["usage_micros"] += int(price or 0)
        figures[account_id]["model_micros"] += int(cost or 0)
        figures[account_id]["uncovered_micros"] += int(uncovered or 0)


def _add_servers(
    db: Session, figures: Figures, since: datetime, until: datetime, now: datetime, monthly_micros: int
) -> None:
    """INSTANCE_COST for the part of the month in which an assistant had its place: from the first time it was active
    to its deletion; one that is suspended keeps it."""
    if monthly_micros == 0:
        return
    begun = (
        sa.select(InstanceEvent.instance_id, sa.func.min(InstanceEvent.at).label("begun_at"))
        .where(InstanceEvent.kind == "active")
        .group_by(InstanceEvent.instance_id)
        .subquery()
    )
    rows = db.execute(
        sa.select(Instance.account_id, begun.c.begun_at, Instance.deleted_at)
        .join(begun, begun.c.instance_id == Instance.id)
        .where(begun.c.begun_at < until, sa.or_(Instance.deleted_at.is_(None), Instance.deleted_at > since))
    )
    for account_id, begun_at, deleted_at in rows:
        held = min(deleted_at or now, until, now) - max(begun_at, since)
        if held > timedelta():
            figures[account_id]["server_micros"] += share(monthly_micros, held, until - since)


def share(amount_micros: int, part: timedelta, whole: timedelta) -> int:
    """The part of an amount that goes with a part of a time, rounded down to a micro-dollar. Pure."""
    second = timedelta(seconds=1)
    return amount_micros * (part // second) // (whole // second)


def month_before(since: datetime) -> str:
    """The name of the month before the one that begins then: `2026-10`. Pure."""
    return f"{since - timedelta(days=1):%Y-%m}"
