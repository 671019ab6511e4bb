"""Truths of the books: subscriptions, payments, credit and wallets, worked out from the vendor's own file and from what
was used and given, not from the tables they are compared with."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from clawhaven import ledger, metering
from clawhaven.billing import checkouts
from clawhaven.billing.models import CreditGrant
from clawhaven.ledger.models import Reservation
from clawhaven.metering.models import UsageRow
from clawhaven.providers.payments.sandbox_store import as_time
from tests.money.facts import Facts, disputed_of


def subscriptions_are_equal(at: Facts) -> Iterator[str]:
    """State, period, plan, price and ending, one for one."""
    for reference in at.sold.keys() ^ at.subscriptions.keys():
        yield f"the subscription {reference} is on one side only"
    for reference in at.sold.keys() & at.subscriptions.keys():
        theirs, ours = at.sold[reference], at.subscriptions[reference]
        said = (
            theirs["state"],
            as_time(theirs["period_start"]),
            as_time(theirs["period_end"]),
            theirs["plan"],
            theirs["amount_micros"],
            bool(theirs["cancel_at_period_end"]),
        )
        kept = (
            ours.state,
            ours.period_start_at,
            ours.period_end_at,
            ours.plan,
            ours.amount_micros,
            ours.is_ending,
        )
        if said != kept:
            yield f"the vendor says {said} of {reference}, we say {kept}"


def payments_are_booked_once(at: Facts) -> Iterator[str]:
    """One receipt and its entries for each payment, and every refund."""
    kept = Counter(one.reference for one in at.receipts)
    for reference in at.paid.keys() ^ kept.keys():
        yield f"the payment {reference} is on one side only"
    for one in at.receipts:
        row = at.paid.get(one.reference)
        if row is None:
            continue
        amount, back = int(row["amount_micros"]), at.returned.get(one.reference, 0)
        is_plan = at.checkouts[one.checkout_id].kind == "subscription"
        if (one.amount_micros, one.refunded_micros, one.dispute) != (amount, back, row["dispute"]):
            yield f"{one.reference}: {amount}, {back} back, dispute {row['dispute']}; we say {vars(one)}"
        if at.moved(f"payment:sandbox:{one.reference}") != amount:
            yield f"{one.reference}: {amount} paid, and not booked"
        if at.moved(f"plan:sandbox:{one.reference}") != (amount if is_plan else 0):
            yield f"{one.reference}: {amount} paid for a plan, and not booked"
        for kind, undo, wanted in (("refund", "unrefund", back), ("unplan", "replan", back if is_plan else 0)):
            booked = _sum(at, f"{kind}:sandbox:{one.reference}:") - _sum(at, f"{undo}:sandbox:{one.reference}:")
            if booked != wanted:
                yield f"{one.reference}: {wanted} given back, {booked} booked as {kind}"


def _sum(at: Facts, prefix: str) -> int:
    return sum(at.moved(key) for key in at.entries if key.startswith(prefix))


def periods_have_their_credit(at: Facts) -> Iterator[str]:
    """Exactly one grant for each period paid for on a plan with credit, none for one that begins within such a period
    (a change of interval pays with what is left), and none for others."""
    granted = Counter(one.key for one in at.all_of(CreditGrant) if one.source == "period")
    wanted: set[str] = set()
    until: dict[str, float] = defaultdict(float)
    for row in sorted(at.paid.values(), key=lambda row: row["period_start"] or 0):
        ours = at.subscriptions.get(row["subscription"] or "")
        if ours is None or row["period_start"] is None or row["plan"] not in ("metered", "tryout"):
            continue
        if row["period_start"] >= until[ours.id]:
            wanted.add(f"period:{ours.id}:{as_time(row['period_start']):%Y-%m-%dT%H:%M:%S}")
            until[ours.id] = row["period_end"]
    for key in wanted | granted.keys():
        if granted[key] != (key in wanted):
            yield f"{key} has {granted[key]} grants and should have {int(key in wanted)}"
    amounts = {one.amount_micros for one in at.all_of(CreditGrant) if one.source == "period"}
    if amounts - {10_000_000}:
        yield f"credit of another amount: {amounts}"


def expired_credit_was_what_was_left(at: Facts) -> Iterator[str]:
    """Spent call by call, first what expires first: what is left at its end goes back, and no more."""
    grants: dict[str, list[CreditGrant]] = defaultdict(list)
    for one in at.all_of(CreditGrant):
        grants[one.account_id].append(one)
    when = {one.id: one.created_at for one in at.entries.values()}
    usage = {one.id for one in at.entries.values() if one.kind == "usage"}
    for account_id, mine in grants.items():
        wallet = at.wallets[account_id]
        left = {one.id: one.amount_micros for one in mine}
        spent = [one for one in at.postings if one.ledger_account_id == wallet.id and one.entry_id in usage]
        for one in sorted(spent, key=lambda one: (when[one.entry_id], one.id)):
            rest, moment = -one.amount_micros, when[one.entry_id]
            usable = [g for g in mine if g.expires_at and g.granted_at <= moment < min(g.expires_at, _end(g))]
            for grant in sorted(usable, key=lambda g: (g.expires_at, g.granted_at, g.id)):
                taken = min(left[grant.id], rest)
                left[grant.id] -= taken
                rest -= taken
        # What came back in between was there for some calls and not for others: only its sum is told.
        was_given_again = any(_sum(at, f"credit-again:{grant.id}") for grant in mine)
        for grant in mine:
            taken = _sum(at, f"credit-expired:{grant.id}") - _sum(at, f"credit-again:{grant.id}")
            if was_given_again:
                if taken != grant.expired_micros or not 0 <= taken <= grant.amount_micros:
                    yield f"{grant.key}: {taken} of {grant.amount_micros} taken back, {grant.expired_micros} noted"
                continue
            if grant.expired_micros != taken or taken > left[grant.id]:
                yield f"{grant.key}: {left[grant.id]} left, {taken} taken back, {grant.expired_micros} noted"
            is_over = grant.expires_at is not None and grant.expires_at < at.now - timedelta(minutes=5)
            if is_over and grant.expired_at is None:
                yield f"{grant.key} is over and was not taken back"
            if is_over and taken < left[grant.id] and not _was_empty(at, wallet.id, grant):
                yield f"{grant.key}: {left[grant.id]} left, only {taken} taken back"


def own_keys_cost_nothing(at: Facts) -> Iterator[str]:
    """A call with the customer's own key is between the customer and the vendor."""
    for call in at.all_of(UsageRow):
        figures = (call.price_micros, call.provider_cost_micros, call.uncovered_micros, call.held_micros)
        if call.plan_mode == "own_key" and (any(figures) or call.ledger_account_id):
            yield f"the call {call.id} with an own key cost {figures}"


def _end(grant: CreditGrant) -> datetime:
    """When it was taken back; late for one that was not."""
    return grant.expired_at or datetime.max.replace(tzinfo=UTC)


def _was_empty(at: Facts, wallet_id: str, grant: CreditGrant) -> bool:
    """True when the wallet had nothing free to take when the credit was taken back (held for calls, or spent)."""
    assert grant.expired_at is not None
    when = {one.id: one.created_at for one in at.entries.values()}
    mine = [one for one in at.postings if one.ledger_account_id == wallet_id]
    before = [one for one in mine if when[one.entry_id] <= grant.expired_at]
    balance = max(before, key=lambda one: one.id).balance_after_micros if before else 0
    held = at.db.scalar(
        select(func.coalesce(func.sum(UsageRow.held_micros), 0)).where(
            UsageRow.ledger_account_id == wallet_id,
            UsageRow.started_at <= grant.expired_at,
            (UsageRow.ended_at.is_(None)) | (UsageRow.ended_at >= grant.expired_at),
        )
    )
    aside = at.db.scalar(
        select(func.coalesce(func.sum(Reservation.amount_micros), 0)).where(
            Reservation.ledger_account_id == wallet_id,
            Reservation.created_at <= grant.expired_at,
            Reservation.key.startswith("dispute:"),
        )
    )
    return int(balance or 0) - int(held or 0) - int(aside or 0) <= 0


def wallets_add_up(at: Facts) -> Iterator[str]:
    """Top-ups less what went back, credit less what expired, corrections, less usage: to the micro-dollar."""
    if problems := ledger.check_books(at.db, metering.held_by_calls(at.db)):
        yield f"the books: {problems}"
    if total := sum(one.amount_micros for one in at.postings):
        yield f"all postings sum to {total}"
    wanted: Counter[str] = Counter()
    for reference, row in at.paid.items():
        ours = next((one for one in at.checkouts.values() if one.reference == row["checkout"]), None)
        if ours is not None and ours.kind != "subscription":
            wanted[ours.account_id] += int(row["amount_micros"]) - at.returned.get(reference, 0)
    for grant in at.all_of(CreditGrant):
        wanted[grant.account_id] += grant.amount_micros - grant.expired_micros
    for call in at.all_of(UsageRow):
        if call.plan_mode == "metered":
            wanted[call.account_id] -= call.price_micros
    for entry in at.entries.values():
        if entry.kind == "correction":
            wallet = at.wallets[entry.ref]
            mine = [one for one in at.postings if one.entry_id == entry.id and one.ledger_account_id == wallet.id]
            wanted[entry.ref] += sum(one.amount_micros for one in mine)
    for account_id in wanted.keys() | at.wallets.keys():
        kept = at.wallets[account_id].balance_micros if account_id in at.wallets else 0
        if kept != wanted[account_id]:
            yield f"the wallet of {account_id} has {kept}, and should have {wanted[account_id]}"


def disputed_top_ups_are_set_aside(at: Facts) -> Iterator[str]:
    """As much of what banks have not decided about as the wallet has above its floor. Not more than that; but what was
    set aside stays so when credit that ends takes the balance to the floor and below."""
    wanted: Counter[str] = Counter()
    for reference, row in at.paid.items():
        ours = next((one for one in at.checkouts.values() if one.reference == row["checkout"]), None)
        if ours is not None and ours.kind != "subscription" and row["dispute"] == "open":
            wanted[ours.account_id] += min(disputed_of(row), int(row["amount_micros"]) - at.returned.get(reference, 0))
    for account_id, wallet in at.wallets.items():
        there = max(0, (wallet.balance_micros or 0) - (wallet.floor_micros or 0))
        if not min(wanted[account_id], there) <= wallet.held_micros <= wanted[account_id]:
            yield f"{wanted[account_id]} of {account_id} is disputed, {there} there, {wallet.held_micros} set aside"


def crossings_are_charged_once(at: Facts) -> Iterator[str]:
    """When an automatic top-up begins, whatever another one has charged by then is on the balance already; within the
    day that vendors keep the key of a charge for."""
    autos = {f"charge:{one.id}": one for one in at.checkouts.values() if one.kind == "auto_topup"}
    for reference, row in at.paid.items():
        asked = at.bought[row["checkout"]]
        earlier = autos.get(asked["key"])
        if earlier is None or asked["created_at"] != row["created_at"]:
            continue  # paid on a page, at a time of the customer's choosing
        paid_at, booked = as_time(row["created_at"]), at.entries.get(f"payment:sandbox:{reference}")
        for later in autos.values():
            is_next = later.account_id == earlier.account_id and later.id != earlier.id and later.created_at > paid_at
            if not is_next or later.created_at > earlier.created_at + checkouts.LIFE:
                continue
            if booked is None or booked.created_at > later.created_at:
                yield f"{later.id} began while {reference}, charged for {earlier.id}, was not booked"
