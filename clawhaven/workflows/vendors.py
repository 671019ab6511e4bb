"""Our subscriptions and checkouts against the payment vendors' own lists: what differs, and what would mend it."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import and_, or_, select

from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout, Subscription
from clawhaven.billing.patience import take_turns
from clawhaven.billing.subscriptions import SubscriptionState
from clawhaven.context import Context
from clawhaven.core.audit import AuditEntry
from clawhaven.core.money import format_usd
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability, ListedSubscription, VendorSubscription
from clawhaven.workflows import renewals
from clawhaven.workflows.reconcile import Finding

YOUNG = timedelta(minutes=5)
"""What began so lately is on its way."""

ROUNDING = timedelta(seconds=1)
"""Vendors keep whole seconds or milliseconds."""

UNANSWERED = timedelta(hours=24)
"""A subscription whose vendor has not answered for it so long needs a person."""

LATE = timedelta(days=2)
"""So long an expired checkout is still looked at: a payment may have been under way."""

MOST_CHECKOUTS = 50
"""Checkouts that are asked about in one look, the newest first: each is a call."""

REPAIRED = (timedelta(hours=26), timedelta(hours=1))
"""A repair that was done between these times ago (the last nightly one, not the one just asked for) should be seen."""

AWAY = "none; asked again next time"
"""The repair of a vendor that does not answer."""

SETTLE = "settle"
REPAIR_ACTION = "money.settle"
"""The audit log's word for a settling that was asked for as a repair."""


@dataclass(frozen=True, slots=True)
class Difference(Finding):
    """A finding about money. `mend` is the kind of repair and `target` the id it acts on; `mend` empty: none is safe,
    and `repair` says what a person should do."""

    mend: str = ""
    target: str = ""
    account_id: str = ""

    @property
    def is_safe(self) -> bool:
        """True where the repair can be done without a person, any number of times."""
        return bool(self.mend)


def compare_subscriptions(ctx: Context) -> list[Difference]:
    """Every vendor's list of living subscriptions against ours, in both directions."""
    found = _without_vendor(ctx)
    for name, provider in ctx.payments.items():
        if Capability.SUBSCRIPTIONS not in provider.capabilities:
            continue
        try:
            listed = provider.list_subscriptions()
        except ProviderError as error:
            found.append(_silent(name, error))
            continue
        with ctx.db.read() as db:
            rows = db.scalars(select(Subscription).where(Subscription.provider == name))
            known = {row.reference: row for row in rows}
            keys = {one.checkout_key for one in listed if one.checkout_key and one.reference not in known}
            opened = {row.id: row for row in db.scalars(select(Checkout).where(Checkout.id.in_(keys)))}
            disputed = renewals.disputed_checkouts(db, ctx, name)
        taken = {row.checkout_id for row in known.values()}
        found += [_unknown(name, one, opened, taken) for one in listed if one.reference not in known]
        found += _otherwise(ctx, name, listed, known, disputed)
    return _doubt(ctx, found)


def find_paid_checkouts(ctx: Context) -> list[Difference]:
    """Checkouts that are open here (or expired lately) and paid at the vendor."""
    now, found = ctx.clock.now(), []
    late = and_(Checkout.state == CheckoutState.EXPIRED, Checkout.created_at > now - LATE)
    with ctx.db.read() as db:
        query = select(Checkout).where(
            or_(Checkout.state == CheckoutState.OPEN, late),
            Checkout.reference.is_not(None),
            Checkout.created_at < now - YOUNG,
        )
        query = query.order_by(Checkout.created_at.desc(), Checkout.id).limit(MOST_CHECKOUTS)
        groups = [db.scalars(query.where(Checkout.provider == name)).all() for name in ctx.payments]
    rows = take_turns(groups, MOST_CHECKOUTS)
    silent: set[str] = set()
    for row in rows:
        if row.provider in silent:
            continue
        try:
            seen = ctx.payment(row.provider).fetch(row.reference or "")
        except ProviderError as error:
            if error.permanent:
                problem = f"{row.provider} does not know this checkout: {error.message}"
                found.append(Difference(row.id, problem, "none; look for it at the vendor", account_id=row.account_id))
            else:
                silent.add(row.provider)
                found.append(_silent(row.provider, error))
            continue
        is_refused = bool(seen.foreign) and not seen.payments and all(one.is_returned for one in seen.foreign)
        if seen.checkout_state == "paid" and not is_refused:
            problem = f"paid at {row.provider} and {row.state} here"
            found.append(_settle(row.id, problem, row.id, row.account_id))
    return _doubt(ctx, found)


def _doubt(ctx: Context, found: list[Difference]) -> list[Difference]:
    """The same differences; those that an earlier settling did not remove are for a person."""
    oldest, youngest = (ctx.clock.now() - age for age in REPAIRED)
    targets = sorted({one.target for one in found if one.mend == SETTLE})
    settled = select(AuditEntry.subject).where(
        AuditEntry.action == REPAIR_ACTION, AuditEntry.at > oldest, AuditEntry.at < youngest
    )
    with ctx.db.read() as db:
        tried = set(db.scalars(settled.where(AuditEntry.subject.in_(targets)))) if targets else set[str]()
    repair = "none; settling it did not help. Look for it at the vendor"
    return [
        dataclasses.replace(one, repair=repair, mend="", target="")
        if one.mend == SETTLE and one.target in tried
        else one
        for one in found
    ]


def _without_vendor(ctx: Context) -> list[Difference]:
    """Living subscriptions of a vendor that is no longer switched on: nobody hears of their payments."""
    with ctx.db.read() as db:
        rows = list(
            db.scalars(
                select(Subscription).where(
                    Subscription.provider.not_in(list(ctx.payments)), Subscription.state != SubscriptionState.CANCELED
                )
            )
        )
    problem, repair = "{} sells it and is not in PAYMENTS", "none; switch it on"
    return [Difference(row.id, problem.format(row.provider), repair, account_id=row.account_id) for row in rows]


def _silent(name: str, error: ProviderError) -> Difference:
    return Difference(name, f"the vendor could not be asked: {error.message}", AWAY)


def _unknown(name: str, one: ListedSubscription, opened: Mapping[str, Checkout], taken: set[str]) -> Difference:
    """A subscription the vendor has and we do not."""
    told = f"{name} has this subscription ({one.state}) and our books do not"
    checkout = opened.get(one.checkout_key or "")
    if checkout is None or checkout.provider != name:
        return Difference(one.reference, f"{told}, nor its checkout", "none; look at the vendor whose it is")
    if checkout.id in taken:
        problem = f"{told}: its checkout {checkout.id} has another subscription already"
        return Difference(one.reference, problem, "none; somebody may pay twice", account_id=checkout.account_id)
    return _settle(one.reference, told, checkout.id, checkout.account_id)


def _otherwise(
    ctx: Context,
    name: str,
    listed: Iterable[ListedSubscription],
    known: Mapping[str, Subscription],
    disputed: Collection[str],
) -> list[Difference]:
    """Subscriptions that we know, and that the vendor sees otherwise or no more."""
    now, there = ctx.clock.now(), {one.reference: one for one in listed}
    found = []
    for reference, row in sorted(known.items()):
        one = there.get(reference)
        state = one.state if one is not None else None
        if row.state == SubscriptionState.CANCELED:
            if state is not None:
                problem = f"ended here and still {state} at {name}: the customer may go on paying"
                found.append(Difference(row.id, problem, "none; cancel it at the vendor", account_id=row.account_id))
        elif row.created_at > now - YOUNG:
            continue
        elif one is not None and state == row.state:
            found += _in_detail(ctx, name, row, one.seen, is_disputed=row.checkout_id in disputed)
        elif state is not None and state not in set(SubscriptionState):
            problem = f'{row.state} here and "{state}" at {name}, a state we do not know'
            repair = "none; look at the vendor what it means, and tell the developers"
            found.append(Difference(row.id, problem, repair, account_id=row.account_id))
        elif row.checked_at < now - UNANSWERED:
            problem = f"{row.state} here, {state or 'gone'} at {name}, which has not answered for it for a day"
            found.append(Difference(row.id, problem, "none; look for it at the vendor", account_id=row.account_id))
        else:
            problem = f"{row.state} here and {state or 'ended'} at {name}"
            found.append(_settle(row.id, problem, row.checkout_id, row.account_id))
    return found


def _in_detail(
    ctx: Context, name: str, row: Subscription, seen: VendorSubscription | None, *, is_disputed: bool
) -> list[Difference]:
    """What else of a subscription the vendor sees otherwise: period, plan and price, its end, whether it collects."""
    if seen is None:
        return []
    told = []
    here, there = (row.period_start_at, row.period_end_at), (seen.current_period_start, seen.current_period_end)
    if any(abs(mine - theirs) > ROUNDING for mine, theirs in zip(here, there, strict=True)):
        told.append(f"its period is {_span(*here)} here and {_span(*there)} at {name}")
    if seen.amount_micros is not None and seen.amount_micros != row.amount_micros:
        told.append(f"{format_usd(row.amount_micros)} here and {format_usd(seen.amount_micros)} at {name}")
    if seen.plan is not None and seen.plan in ctx.plans and seen.plan != row.plan:
        told.append(f"the plan {row.plan} here and {seen.plan} at {name}")
    if seen.cancel_at_period_end != row.is_ending:
        ends = ("goes on", "ends with its period")
        told.append(f"it {ends[row.is_ending]} here and {ends[seen.cancel_at_period_end]} at {name}")
    if row.held_at is not None and seen.is_paused != is_disputed:
        told.append(
            f"its renewals are {'held back though nothing' if seen.is_paused else 'charged though it'} is disputed"
        )
    if told and row.checked_at < ctx.clock.now() - UNANSWERED:
        problem = f"{'; '.join(told)}; {name} has not answered for it for a day"
        return [Difference(row.id, problem, "none; look for it at the vendor", account_id=row.account_id)]
    if told:
        return [_settle(row.id, "; ".join(told), row.checkout_id, row.account_id)]
    if seen.is_paused and row.held_at is None:
        problem = f"{name} charges no renewals of it, and that was not asked for from here"
        return [Difference(row.id, problem, "none; resume it there if it should be paid", account_id=row.account_id)]
    return []


def _span(start: datetime, end: datetime) -> str:
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"


def _settle(subject: str, problem: str, checkout_id: str, account_id: str) -> Difference:
    return Difference(subject, problem, "settle it by what the vendor says", SETTLE, checkout_id, account_id)


LOOKS = (compare_subscriptions, find_paid_checkouts)
"""Looks that ask vendors; no transaction is open while they do."""
