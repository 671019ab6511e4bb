"""Top-ups: a payment page, or a charge of the saved method while the owner is away; and the wallets' sweep."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts, credits, customers, wallet
from clawhaven.billing.checkouts import CheckoutState, Kind
from clawhaven.billing.models import Checkout
from clawhaven.billing.wallet import Auto, Standing
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.db import lock
from clawhaven.core.errors import AppError
from clawhaven.core.languages import N_
from clawhaven.core.logs import get_logger
from clawhaven.core.money import format_usd
from clawhaven.notices import kinds
from clawhaven.notices import wallet as letters_of
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import ChargeRequest
from clawhaven.workflows import access, balance, checkout, disputes, engine, letters, payments
from clawhaven.workflows.engine import StepFailed, step, workflow

log = get_logger("clawhaven.wallet")

REUSE = timedelta(minutes=15)
"""So long an unpaid page for the same amount is offered again instead of a second one."""

STUCK = timedelta(minutes=10)
"""A charge whose end was not heard of by then is asked for, and again every time it has passed."""

SWEEP = timedelta(minutes=1)
"""How often the sweep comes."""

NOTHING_SAVED = "no_saved_method"
"""A vendor's code for a customer without a method that can be charged."""

NO_METHOD = N_("There is no payment method that can be charged.")
CONFIRM = N_("The bank wants the payment to be confirmed.")


def open_topup(ctx: Context, owner: Owner, amount_micros: int) -> Checkout:
    """The payment page for a top-up; its `url` is where to go. Asked twice within minutes it is the same page.

    Raises Invalid naming `amount`, and Unavailable while the vendor does not answer.
    """
    provider, now = balance.check_topup(ctx, amount_micros), ctx.clock.now()
    account_id = owner.account.id
    with ctx.db.tx() as db:
        lock(db, f"topup:{account_id}")
        opened = db.scalars(
            select(Checkout)
            .where(
                Checkout.account_id == account_id,
                Checkout.kind == Kind.TOPUP,
                Checkout.provider == provider.name,
                Checkout.amount_micros == amount_micros,
                Checkout.state == CheckoutState.OPEN,
                Checkout.created_at > now - REUSE,
            )
            .order_by(Checkout.created_at.desc())
        ).first()
        if opened is None:
            opened = checkouts.open_topup(db, account_id, amount_micros, provider.name, now)
            amount = format_usd(amount_micros)
            audit.record(db, now, f"user:{owner.user.id}", "wallet.topup", opened.id, account_id, amount=amount)
    return checkout.page_for(ctx, opened.id)


@workflow("charge_topup")
def charge_topup(checkout_id: str, number: int) -> str:
    """The auto top-up of one crossing: charge the saved method, or mail a link where nothing can be charged."""
    try:
        if send_link(checkout_id, number):
            return "link"
        if not charge(checkout_id):
            return "refused"
        return see_charge(checkout_id)
    except StepFailed as failure:
        # A vendor that does not answer is asked again by the sweep; the key of the charge stays the same.
        return failure.code


@step("send_topup_link")
def send_link(checkout_id: str, number: int) -> bool:
    """For a checkout with a page: one letter with the way to it. False for a charge."""
    ctx = engine.context()
    with ctx.db.read() as db:
        opened = checkouts.get(db, checkout_id)
        standing = wallet.standing(db, opened.account_id)
    if opened.kind != Kind.TOPUP:
        return False
    url = checkout.page_url(ctx, opened)
    amount, left = format_usd(opened.amount_micros), format_usd(standing.balance_micros if standing else 0)
    letter = letters_of.auto_link(ctx.settings.brand_name, amount, left, url, balance.topup_url(ctx))
    with ctx.db.tx() as db:
        letters.post(db, ctx, f"auto-topup:{opened.account_id}:{number}", letter, opened.account_id)
    return True


@step("charge_saved", attempts=4, wait_seconds=2)
def charge(checkout_id: str) -> bool:
    """Charge the saved method, once however often this runs. False: it is not wanted any more, or the vendor refuses.

    That the vendor is asked is written down before. Only the refusal that says that there is nothing to charge ends it.
    After any other an earlier try, whose answer was lost, may have gone through: the checkout stays open for its event,
    and the operator is asked to look.
    """
    ctx = engine.context()
    with ctx.db.read() as db:
        opened = checkouts.get(db, checkout_id)
        customer = customers.find(db, opened.account_id, opened.provider)
    if opened.reference is not None:
        return True
    request = ChargeRequest(
        key=opened.id,
        customer_reference=customer or "",
        amount_micros=opened.amount_micros,
        description=f"{ctx.settings.brand_name}: usage credit",
        metadata={"checkout": opened.id},
    )
    with ctx.db.tx() as db:
        access.hold_account(db, opened.account_id)
        why_not = _why_not(db, ctx, opened.account_id)
        if why_not is None and not checkouts.mark_charged(db, checkout_id, ctx.clock.now()):
            return False
    if why_not is not None:
        return _was_charged(ctx, request, why_not)
    try:
        made = ctx.payment(opened.provider).charge_saved(request)
    except ProviderError as error:
        if not error.permanent:
            raise
        log.warning("a charge was refused", checkout=checkout_id, code=error.code)
        with ctx.db.tx() as db:
            if error.code == NOTHING_SAVED:
                _close(db, ctx, checkout_id, NO_METHOD)
            else:
                _ask_operator(db, ctx, checkout_id, str(error))
        return False
    with ctx.db.tx() as db:
        checkouts.attach(db, checkout_id, made.reference, made.url)
    return True


@step("see_charge", attempts=4, wait_seconds=2)
def see_charge(checkout_id: str) -> str:
    """How the charge ended. Declined, or waiting for the customer: told once. The books follow by settlement.

    `processing`: the money is on its way, there is nothing to tell.
    """
    ctx = engine.context()
    with ctx.db.read() as db:
        opened = checkouts.get(db, checkout_id)
    seen = ctx.payment(opened.provider).fetch(opened.reference or "")
    with ctx.db.tx() as db:
        known = checkouts.get(db, checkout_id)
        if seen.checkout_state == "open":
            balance.fail_auto(db, ctx, known, CONFIRM, known.url or balance.topup_url(ctx))
        elif seen.checkout_state not in ("paid", "processing"):
            balance.fail_auto(db, ctx, known, balance.DECLINED)
        payments.ask_settle(db, ctx, checkout_id)
    return seen.checkout_state


def _why_not(db: Session, ctx: Context, account_id: str) -> str | None:
    """Why nothing is to be charged now, empty where its owner does not want it any more; None: charge it."""
    row = wallet.find(db, account_id)
    if row is None or not row.is_auto:
        return ""
    return balance.DISPUTED if disputes.of_topups(db, ctx, account_id) else None


def _was_charged(ctx: Context, request: ChargeRequest, why_not: str) -> bool:
    """True when an earlier try, whose answer was lost, has charged what is not wanted any more. It is closed otherwise,
    but for one whose last try is so young that it may not show at the vendor yet: the sweep comes again."""
    with ctx.db.read() as db:
        opened = checkouts.get(db, request.key)
    if opened.state != CheckoutState.OPEN:
        return False
    if opened.charged_at is not None:
        made = ctx.payment(opened.provider).find_charge(request)
        if made is not None:
            with ctx.db.tx() as db:
                checkouts.attach(db, opened.id, made.reference, made.url)
            return True
        if ctx.clock.now() < opened.charged_at + STUCK:
            return False
    with ctx.db.tx() as db:
        access.hold_account(db, opened.account_id)
        if why_not:
            _close(db, ctx, opened.id, why_not)
        else:
            balance.withdraw(db, ctx, wallet.ensure(db, opened.account_id, ctx.clock.now()), is_sure=True)
    return False


def _close(db: Session, ctx: Context, checkout_id: str, why: str) -> None:
    """Nothing was charged, and nothing will be under this key."""
    known = checkouts.get(db, checkout_id)
    if known.reference is not None:
        return  # Its event came meanwhile: it was charged after all.
    balance.fail_auto(db, ctx, known, why)
    if known.state == CheckoutState.OPEN:
        checkouts.expire(db, checkout_id, ctx.clock.now())


def _ask_operator(db: Session, ctx: Context, checkout_id: str, why: str) -> None:
    """Whether it was charged is not known: somebody has to look. Told once."""
    known = checkouts.get(db, checkout_id)
    amount = format_usd(known.amount_micros)
    text = (
        f"The automatic top-up {known.id} of {amount} was refused by {known.provider}: {why}\n\n"
        f"Account: {known.account_id}\nAn earlier try may have gone through: please look at the vendor's own site. A"
        " payment that is there is booked by its event. Otherwise it is tried again under the same key for a day; then"
        f" the customer is told that it did not work.\n\nSee {ctx.settings.base_url}/admin\n"
    )
    letter = kinds.alert(f"An automatic top-up of {amount} needs a look", text)
    letters.post_to(db, ctx, f"charge-unclear:{known.id}", letter, ctx.settings.support_address)


@workflow("sweep_wallets")
def sweep_wallets(scheduled_at: datetime, context: Any) -> None:
    """Expired credit, levels, graces that are over, auto top-ups that nobody heard of."""
    sweep_once()


@step("sweep_wallets_once", attempts=1)
def sweep_once() -> int:
    """One sweep; returns how many wallets were looked at."""
    return sweep(engine.context())


def sweep(ctx: Context) -> int:
    """Look at every wallet that needs it, each in a transaction of its own; one that cannot be read stops no other."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        ledger.set_floors(db, wallet.KIND, ctx.settings.micros("wallet_minimum"))
    with ctx.db.read() as db:
        over = {(grant.account_id, grant.id) for grant in credits.due(db, now)}
    for account_id, grant_id in sorted(over):
        with _guarded(account_id), ctx.db.tx() as db:
            access.hold_account(db, account_id)
            credits.expire(db, grant_id, access.wallet_of(db, ctx, account_id), now)
    with ctx.db.read() as db:
        found = ledger.balances(db, wallet.KIND)
        rows = wallet.rows(db)
        judged = wallet.metered_accounts(db, balance.metered_plans(ctx))
        disputed = {receipt.account_id for receipt in disputes.of_topups(db, ctx)}
        aside = wallet.set_aside(db)
    wanted = [
        account_id
        for account_id, known in sorted(found.items())
        if account_id in disputed
        or balance.needs_look(
            ctx,
            rows.get(account_id),
            Standing(known.balance_micros, known.held_micros, known.floor_micros or 0, False, aside.get(account_id, 0)),
            account_id in judged,
        )
    ]
    for account_id in wanted:
        with _guarded(account_id), ctx.db.tx() as db:
            balance.look(db, ctx, account_id)
    for account_id, row in sorted(rows.items()):
        if row.auto_state == Auto.FIRED:
            with _guarded(account_id):
                _ask_for_charge(ctx, account_id)
    return len(wanted)


def _ask_for_charge(ctx: Context, account_id: str) -> None:
    """A charge that should have ended by now: ask how it ended, or begin it again under its key."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        row = wallet.find(db, account_id)
        charge = balance.charge_of(db, row) if row is not None and row.auto_state == Auto.FIRED else None
        if row is None or charge is None or charge.state != CheckoutState.OPEN or charge.kind != Kind.AUTO_TOPUP:
            return
        tries, rest = divmod(now - charge.created_at, STUCK)
        # Vendors keep a key for a day: after that nothing is tried under it again.
        if tries < 1 or rest >= SWEEP or now >= charge.created_at + checkouts.LIFE - STUCK:
            return
        if charge.reference is None:
            balance.ask_charge(db, ctx, charge, row.auto_count, again=str(tries))
        else:
            payments.ask_settle(db, ctx, charge.id)


@contextmanager
def _guarded(account_id: str) -> Iterator[None]:
    try:
        yield
    except (AppError, SQLAlchemyError):
        log.exception("a wallet could not be looked at", account=account_id)
