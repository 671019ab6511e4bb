"""Payment events: stored by the door, applied here by re-reading the vendor, never by trusting an event's order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.orm import Session

from clawhaven.accounts import signup
from clawhaven.billing import checkouts, inbox, refunds, subscriptions
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout, InboxEvent
from clawhaven.context import Context
from clawhaven.core.db import Database
from clawhaven.core.gathering import commit_together
from clawhaven.core.logs import get_logger
from clawhaven.core.money import format_usd
from clawhaven.notices import kinds
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import BadSignature, Capability, PaymentEvent, PaymentKind
from clawhaven.workflows import alarms, engine, foreign, letters, lifecycle, renewals, settlement
from clawhaven.workflows.engine import StepFailed, enqueue, step, workflow

log = get_logger("clawhaven.payments")

UNKNOWN_TRIES = 5
"""An event can overtake the answer that tells us its checkout's reference; it is looked for again for some seconds."""

OVERTAKING = timedelta(minutes=5)
"""An older event overtakes nothing."""

YOUNG = timedelta(minutes=2)
"""Who opened a page so lately is still paying."""

CHECKOUTS_A_ROUND = 100
"""So many open checkouts are asked about in one round, which come every five minutes."""

ON_ITS_WAY = timedelta(minutes=2)
"""So long a vendor may take to send an event. One that is older when it is fetched from its list was never sent."""

OVERLAP = timedelta(days=2)
"""An event can appear in a vendor's list later than its own time says."""

AWAY = "away: "
"""So the last word about an event begins whose vendor did not answer; the code follows."""

LONGEST = timedelta(days=30)
"""So long vendors keep events (https://docs.stripe.com/api/events/list)."""

REMEMBERED = 10_000
"""Stored events that a process knows by heart; then it begins anew."""

_stored: WeakKeyDictionary[Database, dict[tuple[str, str], bool]] = WeakKeyDictionary()
"""(provider, event id) of what is in the database for certain."""

_asked: WeakKeyDictionary[Database, dict[str, datetime]] = WeakKeyDictionary()
"""When each vendor was last asked for events by this process, and answered."""


def receive(ctx: Context, provider: str, headers: Mapping[str, str], body: bytes) -> bool:
    """Verify, store, ask for the work. Raises BadSignature. False: this event was here before.

    The vendor waits for the answer: an event that this process has stored costs nothing. On SQLite, where a write waits
    for its turn, any other known event costs only a read, and new ones that come together share a commit.
    """
    return _take(ctx, provider, ctx.payment(provider).parse_event(headers, body), body)


def _take(ctx: Context, provider: str, event: PaymentEvent, body: bytes) -> bool:
    stored = _stored.setdefault(ctx.db, {})
    if (provider, event.event_id) in stored:
        return False
    if ctx.db.is_sqlite:
        with ctx.db.read() as db:
            if inbox.is_known(db, provider, event.event_id):
                return False

    def store(db: Session) -> bool:
        row = inbox.record(db, provider, event, body, ctx.clock.now())
        if row is not None:
            ask(db, ctx, row)
        return row is not None

    is_new = commit_together(ctx.db, "inbox", store)
    if len(stored) >= REMEMBERED:
        stored.clear()
    stored[provider, event.event_id] = True
    return is_new


def ask(db: Session, ctx: Context, row: InboxEvent, again: str = "") -> None:
    """Enqueue the work for a stored event; what concerns one checkout is applied one after the other."""
    checkout_id = checkouts.spoken_of(db, row)
    named = row.checkout_reference or row.subscription_reference or row.payment_reference
    partition = checkout_id or named or row.id
    workflow_id = f"event:{row.provider}:{row.event_id}" + (f":{again}" if again else "")
    enqueue(db, ctx, "apply_payment", workflow_id, row.id, queue=engine.EVENTS, partition=partition)


def ask_settle(
    db: Session, ctx: Context, checkout_id: str, *, is_overdue: bool = False, is_patient: bool = True
) -> None:
    """Ask for the vendor's truth about a checkout without an event; `is_overdue`: unpaid then means expired.

    `is_patient` False: a vendor that does not answer is left alone, because the next round asks again anyway; hundreds
    that wait for it would keep the events of other vendors waiting.
    """
    workflow_id = f"settle:{checkout_id}:{int(ctx.clock.now().timestamp())}"
    given = (checkout_id, is_overdue, is_patient)
    enqueue(db, ctx, "settle", workflow_id, *given, queue=engine.EVENTS, partition=checkout_id)


def ask_open(ctx: Context) -> None:
    """Ask about open checkouts, each more and more rarely: the event that one was paid may never come."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        for row in checkouts.unpaid(db, set(ctx.payments), before=now - YOUNG, now=now, limit=CHECKOUTS_A_ROUND):
            checkouts.note_asked(db, row, now)
            ask_settle(db, ctx, row.id, is_patient=False)


@workflow("apply_payment")
def apply_payment(row_id: str) -> str:
    """Find what the event speaks of, read the vendor's truth, make ours equal."""
    try:
        for attempt in range(UNKNOWN_TRIES):
            checkout_id = find_checkout(row_id)
            if checkout_id is not None:
                break
            if not is_ours(row_id):
                checkout_id = find_checkout(row_id)  # its vendor's answer may have come between the two looks
                break
            engine.sleep(1 + attempt)
        if checkout_id is None:
            close_event(row_id, "ignored", "no checkout of ours has this reference")
            return "ignored"
        if settle_checkout(checkout_id) == settlement.UNWANTED:
            give_back(checkout_id)
            settle_checkout(checkout_id)
        close_event(row_id, "handled", "")
    except StepFailed as failure:
        # The row stays `received`; the reconciler asks the vendor again.
        return f"{AWAY}{failure.code}" if failure.is_away else failure.code
    return "handled"


@workflow("settle")
def settle(checkout_id: str, is_overdue: bool, is_patient: bool = True) -> str:
    """Make ours equal to the vendor's; give back what was paid for nothing; expire what nobody paid."""
    try:
        outcome = settle_checkout(checkout_id) if is_patient else look_at_checkout(checkout_id)
        if outcome == settlement.UNWANTED:
            give_back(checkout_id)
            settle_checkout(checkout_id)
        elif is_overdue and outcome not in ("paid", "processing"):
            expire_checkout(checkout_id)
    except StepFailed as failure:
        return failure.code
    return outcome


@step("expire_checkout")
def expire_checkout(checkout_id: str) -> None:
    """Nobody paid within a day: the draft goes, its place is free."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        checkout = checkouts.get(db, checkout_id)
        if checkout.state == CheckoutState.OPEN and checkouts.expire(db, checkout_id, ctx.clock.now()):
            settlement.give_up(db, ctx, checkout)


@step("is_ours")
def is_ours(row_id: str) -> bool:
    """False for an event that is not worth waiting for its checkout: nothing follows from its kind, it is old, it names
    a checkout that is not ours, or every open checkout's reference is known."""
    ctx = engine.context()
    since = ctx.clock.now() - OVERTAKING
    with ctx.db.read() as db:
        row = db.get_one(InboxEvent, row_id)
        if row.kind == PaymentKind.OTHER or row.checkout_key or row.vendor_created_at < since:
            return False
        return checkouts.is_page_missing(db, row.provider)


@step("find_checkout")
def find_checkout(row_id: str) -> str | None:
    """The checkout an event speaks of, directly or through its subscription."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        row = db.get_one(InboxEvent, row_id)
        return checkouts.spoken_of(db, row) or _found_by_key(db, row)


def _found_by_key(db: Session, row: InboxEvent) -> str | None:
    """The checkout whose id the vendor keeps for us, when its answer with the reference never reached us."""
    known = db.get(Checkout, row.checkout_key) if row.checkout_key else None
    if known is None or known.provider != row.provider:
        return None
    if known.reference is None and row.checkout_reference is not None:
        checkouts.attach(db, known.id, row.checkout_reference, "")
    return known.id


@step("settle_checkout", attempts=6, wait_seconds=2)
def settle_checkout(checkout_id: str) -> str:
    """Read the vendor's state outside any transaction, then make ours equal in one; then hold or release renewals."""
    return _settle(checkout_id)


@step("look_at_checkout", attempts=1)
def look_at_checkout(checkout_id: str) -> str:
    """The same, asking the vendor once."""
    return _settle(checkout_id)


def _settle(checkout_id: str) -> str:
    ctx = engine.context()
    with ctx.db.read() as db:
        checkout = checkouts.get(db, checkout_id)
    if checkout.reference is None:
        return "open"
    asked_at = ctx.clock.now()
    seen = ctx.payment(checkout.provider).fetch(checkout.reference)
    with ctx.db.tx() as db:
        outcome = settlement.equalise(db, ctx, checkouts.get(db, checkout_id), seen, asked_at)
    foreign.give_back(ctx, checkout, seen)
    renewals.align(ctx, checkout_id)
    return outcome


@step("give_back", attempts=6, wait_seconds=2)
def give_back(checkout_id: str) -> None:
    """End the subscription and return the money of payments that nothing was given for; once per payment."""
    ctx = engine.context()
    with ctx.db.read() as db:
        checkout = checkouts.get(db, checkout_id)
        subscription = subscriptions.of_checkout(db, checkout_id)
        if subscription is not None:
            unwanted = settlement.unwanted_receipts(db, subscription)
        else:
            unwanted = [
                receipt
                for receipt in checkouts.receipts_of(db, checkout_id)
                if receipt.refunded_micros < receipt.amount_micros
            ]
    provider = ctx.payment(checkout.provider)
    if subscription is not None:
        lifecycle.end_agreement(ctx, subscription)  # also one that ended here: what was paid just now says otherwise
    for receipt in unwanted:
        with ctx.db.read() as db:
            left = refunds.left_of(db, receipt)
        if left <= 0:
            continue
        if Capability.REFUND in provider.capabilities:
            provider.refund(receipt.reference, left, f"give-back:{receipt.id}:{receipt.refunded_micros}")
            continue
        paid = f"the payment {receipt.reference} ({checkout.id})"
        text = f"{checkout.provider} cannot refund by itself: return {format_usd(left)} of {paid} by hand."
        with ctx.db.tx() as db:
            letter = kinds.alert("A refund is waiting for you", text)
            letters.post_to(db, ctx, f"refund:{receipt.id}", letter, ctx.settings.support_address)


@step("close_event")
def close_event(row_id: str, state: str, note: str) -> None:
    """The event is done with."""
    ctx = engine.context()
    with ctx.db.tx() as db:
        close(db, row_id, state, note, ctx.clock.now())


def close(db: Session, row_id: str, state: str, note: str, now: datetime) -> None:
    """An event is done with, whatever became of it. What it says of a deleted account's owner is not kept."""
    inbox.close(db, row_id, state, note, now)
    row = db.get_one(InboxEvent, row_id)
    known = db.get(Checkout, checkouts.spoken_of(db, row) or row.checkout_key or "")
    if known is not None and known.provider == row.provider and _is_gone(db, known.account_id):
        inbox.empty(db, row_id)


def _is_gone(db: Session, account_id: str) -> bool:
    return signup.owner_of(db, account_id).account.deleted_at is not None


def sync(ctx: Context) -> int:
    """Ask every vendor for events we may have missed; returns how many were new. One bad event stops no other.

    Looked back is over OVERLAP before the last time that this process asked and was answered, at first over LONGEST: an
    installation that was off for days has missed what vendors have given up sending. What it finds from the second time
    on should have reached us: more than a few in an hour are told to the operator, and one after which nothing comes.
    Raises the ProviderError of a vendor that does not answer, once all others were asked.
    """
    found, away = 0, None
    for name, provider in ctx.payments.items():
        now, asked = ctx.clock.now(), _asked.setdefault(ctx.db, {})
        since = max(now - LONGEST, asked[name] - OVERLAP) if name in asked else now - LONGEST
        try:
            events: list[tuple[dict[str, Any], bytes]] = provider.unseen(since)
        except ProviderError as error:
            away = error
            continue
        missed: list[datetime] = []
        for headers, body in events:
            try:
                event = provider.parse_event(headers, body)
            except (BadSignature, ProviderError) as error:
                log.warning("an event from the vendor cannot be read", provider=name, error=type(error).__name__)
                continue
            if _take(ctx, name, event, body):
                found += 1
                missed += [event.created_at] if _is_missed(ctx, name, event, now) else []
        if name in asked:
            alarms.note_lost(ctx, name, missed)
        asked[name] = now
        alarms.watch_silence(ctx, name)
    if away is not None:
        raise away
    return found


def _is_missed(ctx: Context, provider: str, event: PaymentEvent, now: datetime) -> bool:
    """True for a fetched event that the vendor should have sent by `now`. What is only made of its lists tells nothing
    of that, but for a payment that no event of its own speaks of."""
    if event.created_at > now - ON_ITS_WAY:
        return False
    if not event.is_made:
        return True
    with ctx.db.read() as db:
        return event.kind == PaymentKind.PAYMENT_SUCCEEDED and not inbox.is_told(db, provider, event)
