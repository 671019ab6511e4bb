"""The wallet's rules joined to assistants and letters: levels, suspension, auto top-up, credits, coupons."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven import ledger
from clawhaven.accounts import signup
from clawhaven.billing import checkouts, coupons, credits, customers, once, wallet
from clawhaven.billing.checkouts import CheckoutState, Kind
from clawhaven.billing.coupons import CouponKind
from clawhaven.billing.models import Checkout, Wallet
from clawhaven.billing.wallet import Auto, Level, Standing
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.core.errors import Conflict, Invalid
from clawhaven.core.languages import N_, Sentence, Usd
from clawhaven.core.money import MICROS_PER_CENT, MICROS_PER_DOLLAR, format_usd
from clawhaven.instances import states
from clawhaven.instances.models import Instance
from clawhaven.instances.states import Reason, State
from clawhaven.metering import PlanMode
from clawhaven.notices import wallet as letters_of
from clawhaven.ports.payments import Capability, Payments
from clawhaven.workflows import access, disputes, engine, letters, lifecycle
from clawhaven.workflows.engine import enqueue

ACTOR = "system"
MAX_MICROS = 100_000 * MICROS_PER_DOLLAR
DECLINED = N_("The payment method was declined.")
UNANSWERED = N_("The payment provider did not answer.")
DISPUTED = N_("One of your payments is disputed.")
STEPS = {
    MICROS_PER_CENT: N_("A top-up is in whole cents."),
    MICROS_PER_DOLLAR: N_("A top-up is in whole dollars."),
}


def look(db: Session, ctx: Context, account_id: str) -> None:
    """Make level, letters, suspensions and auto top-up follow the balance, in the caller's transaction.

    Any number of times, in any order: what was told is not told again. Only accounts with a running metered
    subscription are judged; nothing of another is kept suspended for its balance.
    """
    access.hold_account(db, account_id)
    is_disputed = disputes.set_aside(db, ctx, account_id)
    standing = wallet.standing(db, account_id)
    if standing is None:
        return
    now = ctx.clock.now()
    row = wallet.ensure(db, account_id, now)
    is_judged = account_id in wallet.metered_accounts(db, metered_plans(ctx), account_id)
    level = wallet.level_of(standing, ctx.settings.micros("low_balance_margin")) if is_judged else Level.OK
    since = row.level_at if level == row.level else now
    is_over = level == Level.DEPLETED and now >= since + timedelta(minutes=ctx.settings.depleted_grace_minutes)
    # Assistants first, the wallet's row last: everybody locks in this order.
    resumed = _suspend_and_resume(db, ctx, account_id, is_over)
    if level != row.level:
        if is_judged:
            _tell(db, ctx, row, level, standing, has_resumed=resumed > 0)
        wallet.change_level(db, row, level, now)
    if row.refused_at is not None and not standing.is_refused:
        wallet.forget_refusal(db, account_id, row.refused_at)
    if is_judged:
        _follow_auto(db, ctx, row, standing, level, now, is_disputed=is_disputed)


def metered_plans(ctx: Context) -> list[str]:
    """The ids of the plans whose usage is paid from the wallet."""
    return [plan.id for plan in ctx.plans if plan.access == PlanMode.METERED]


def needs_look(ctx: Context, row: Wallet | None, standing: Standing, is_judged: bool) -> bool:
    """True when `look` may have something to do, judged from rows that were read together."""
    if row is None:
        return is_judged
    level = wallet.level_of(standing, ctx.settings.micros("low_balance_margin")) if is_judged else Level.OK
    if level != row.level or level == Level.DEPLETED or row.refused_at is not None or standing.disputed_micros:
        return True
    is_below = standing.own_micros < row.auto_threshold_micros
    return row.is_auto and (row.auto_state == Auto.FIRED or is_below == (row.auto_state == Auto.ARMED))


def topup_url(ctx: Context) -> str:
    """Our page where a balance is filled."""
    return f"{ctx.settings.base_url}/topup"


def _suspend_and_resume(db: Session, ctx: Context, account_id: str, is_over: bool) -> int:
    """Suspend what the wallet pays for once the grace is over, lift what is suspended for its balance otherwise;
    returns how many started again."""
    paid_by_wallet = wallet.metered_instances(db, metered_plans(ctx), account_id) if is_over else set()
    mine = select(Instance).where(
        Instance.account_id == account_id,
        Instance.state.in_([State.ACTIVE, State.SUSPENDED]),
        Instance.deletion_asked_at.is_(None),
    )
    resumed = 0
    for known in db.scalars(mine.order_by(Instance.id).execution_options(populate_existing=True)).all():
        is_wanted = known.id in paid_by_wallet
        if is_wanted == (Reason.BALANCE in states.reasons(known)):
            continue
        instance = lifecycle.locked(db, known.id)
        if instance.state not in (State.ACTIVE, State.SUSPENDED) or instance.deletion_asked_at is not None:
            continue
        if is_wanted:
            lifecycle.ask_suspend(db, ctx, instance.id, Reason.BALANCE, ACTOR)
        elif Reason.BALANCE in states.reasons(instance):
            resumed += lifecycle.ask_resume(db, ctx, instance.id, Reason.BALANCE, ACTOR) is not None
    return resumed


def _tell(db: Session, ctx: Context, row: Wallet, level: Level, standing: Standing, *, has_resumed: bool) -> None:
    brand = ctx.settings.brand_name
    balance: letters_of.Said = format_usd(standing.own_micros)
    if standing.disputed_micros:
        balance = letters_of.without_disputed(balance, format_usd(standing.disputed_micros))
    line = format_usd(standing.floor_micros)
    if level == Level.DEPLETED:
        minutes = ctx.settings.depleted_grace_minutes
        is_new = row.episode == 0
        tell = letters_of.first_topup if is_new else letters_of.depleted
        letter = tell(brand, balance, line, minutes, topup_url(ctx))
    elif row.level == Level.DEPLETED:
        if has_resumed:
            return  # Each assistant that starts again has a letter of its own.
        letter = letters_of.restored(brand, balance)
    elif level == Level.LOW:
        letter = letters_of.low(brand, balance, line, topup_url(ctx))
    else:
        return
    letters.post(db, ctx, f"wallet:{row.account_id}:{row.episode + 1}", letter, row.account_id)


def _follow_auto(
    db: Session, ctx: Context, row: Wallet, standing: Standing, level: Level, now: datetime, *, is_disputed: bool
) -> None:
    is_below = standing.own_micros < row.auto_threshold_micros or level == Level.DEPLETED
    charge = charge_of(db, row) if row.auto_state == Auto.FIRED else None
    if charge is not None and charge.kind == Kind.AUTO_TOPUP:
        if charge.state == CheckoutState.OPEN:
            return  # At work: whatever the balance does meanwhile, one charge at a time.
        if charge.state == CheckoutState.EXPIRED:
            fail_auto(db, ctx, charge, DECLINED if charge.last_outcome == "declined" else UNANSWERED)
            return
    if not is_below:
        if row.auto_state != Auto.ARMED:
            wallet.rearm(db, row.account_id)
    elif row.is_auto and row.auto_state == Auto.ARMED:
        _fire(db, ctx, row, now, is_disputed=is_disputed)


def _fire(db: Session, ctx: Context, row: Wallet, now: datetime, *, is_disputed: bool) -> None:
    """Once per crossing: the state, the checkout and the workflow that charges are one transaction."""
    number = wallet.fire(db, row.account_id)
    if number is None:
        return
    if is_disputed:
        _give_up(db, ctx, row.account_id, number, row.auto_amount_micros, DISPUTED)
        return
    try:
        provider = check_topup(ctx, row.auto_amount_micros)
    except Invalid as problem:
        _give_up(db, ctx, row.account_id, number, row.auto_amount_micros, problem.message)
        return
    has_customer = customers.find(db, row.account_id, provider.name) is not None
    can_charge = Capability.CHARGE_SAVED in provider.capabilities and has_customer
    kind = Kind.AUTO_TOPUP if can_charge else Kind.TOPUP
    charge = checkouts.open_topup(
        db,
        row.account_id,
        row.auto_amount_micros,
        provider.name,
        now,
        kind,
        checkout_id=wallet.charge_id(row.account_id, number),
    )
    ask_charge(db, ctx, charge, number)


def ask_charge(db: Session, ctx: Context, charge: Checkout, number: int, again: str = "") -> None:
    """Ask for the workflow that charges, or mails the link; `again` names a further try."""
    workflow_id = f"charge_topup:{charge.id}" + (f":{again}" if again else "")
    enqueue(db, ctx, "charge_topup", workflow_id, charge.id, number, queue=engine.EVENTS, partition=charge.id)


def charge_of(db: Session, row: Wallet) -> Checkout | None:
    """The checkout of the latest crossing; None before the first one, or where no vendor could be asked."""
    return db.get(Checkout, wallet.charge_id(row.account_id, row.auto_count), populate_existing=True)


def withdraw(db: Session, ctx: Context, row: Wallet, *, is_sure: bool = False) -> None:
    """The owner wants no automatic top-up any more: one that was not charged yet is not charged.

    One that a vendor was asked to charge stays open until it was looked for there in vain (`is_sure`).
    """
    charge = charge_of(db, row) if row.auto_state == Auto.FIRED else None
    if charge is None or charge.kind != Kind.AUTO_TOPUP or charge.state != CheckoutState.OPEN or charge.reference:
        return
    if is_sure or charge.charged_at is None:
        checkouts.expire(db, charge.id, ctx.clock.now())
        wallet.rearm(db, row.account_id)


def fail_auto(db: Session, ctx: Context, charge: Checkout, why: str, confirm_url: str | None = None) -> bool:
    """The charge of the current crossing did not go through: told once, never tried again by itself.

    `confirm_url`: where the customer's bank wants to see them. False: told already, or over.
    """
    row = wallet.ensure(db, charge.account_id, ctx.clock.now())
    if charge.id != wallet.charge_id(charge.account_id, row.auto_count):
        return False
    return _give_up(db, ctx, charge.account_id, row.auto_count, charge.amount_micros, why, confirm_url)


def _give_up(
    db: Session, ctx: Context, account_id: str, number: int, amount: int, why: str, confirm_url: str | None = None
) -> bool:
    if not wallet.fail(db, account_id, number, why):
        return False
    brand, text = ctx.settings.brand_name, format_usd(amount)
    letter = letters_of.auto_failed(brand, text, why, topup_url(ctx))
    if confirm_url:
        letter = letters_of.auto_confirm(brand, text, confirm_url)
    letters.post(db, ctx, f"auto-topup:{account_id}:{number}", letter, account_id)
    audit.record(db, ctx.clock.now(), ACTOR, "wallet.auto_topup_failed", account_id, account_id, amount=text)
    return True


def check_topup(ctx: Context, amount_micros: int, field: str = "amount") -> Payments:
    """Who sells a top-up of this amount. Raises Invalid naming the smallest, the largest, or the step."""
    provider = ctx.seller(Capability.TOPUPS)
    least, most = ctx.settings.micros("topup_minimum"), ctx.settings.micros("topup_maximum")
    if not least <= amount_micros <= most:
        limits = Sentence("A top-up is from %(least)s to %(most)s.", least=Usd(least), most=Usd(most))
        raise Invalid(limits, field=field, reason="out of range")
    # A vendor that sells top-ups as units of a product says what a unit is; all others count cents.
    step = int(getattr(provider, "topup_unit_micros", MICROS_PER_CENT))
    if amount_micros % step:
        said = STEPS.get(step) or Sentence("A top-up is a multiple of %(step)s.", step=Usd(step))
        raise Invalid(said, field=field, reason="not a whole amount")
    return provider


def save_auto(
    db: Session,
    ctx: Context,
    account_id: str,
    *,
    is_auto: bool,
    threshold_micros: int,
    amount_micros: int,
    actor: str,
) -> Wallet:
    """Keep an owner's auto top-up and look at once. Raises Invalid naming `threshold` or `amount`."""
    if not 0 <= threshold_micros <= MAX_MICROS or threshold_micros % MICROS_PER_CENT:
        raise Invalid("The threshold is in whole cents, at most $100,000.", field="threshold", reason="not an amount")
    if is_auto:
        check_topup(ctx, amount_micros)
    now = ctx.clock.now()
    access.hold_account(db, account_id)
    access.wallet_of(db, ctx, account_id)
    wallet.ensure(db, account_id, now)
    wallet.save_auto(db, account_id, is_auto=is_auto, threshold_micros=threshold_micros, amount_micros=amount_micros)
    if not is_auto:
        withdraw(db, ctx, wallet.ensure(db, account_id, now))
    said = {"threshold": format_usd(threshold_micros), "amount": format_usd(amount_micros)}
    audit.record(db, now, actor, "wallet.auto_topup", account_id, account_id, is_auto=is_auto, **said)
    look(db, ctx, account_id)
    return wallet.ensure(db, account_id, now)


def give_credit(
    db: Session,
    ctx: Context,
    account_id: str,
    amount_micros: int,
    reason: str,
    actor: str,
    *,
    key: str,
    expires_at: datetime | None = None,
) -> bool:
    """Credit from the operator, once per `key` (the request's Idempotency-Key). Raises Invalid naming the field, and
    Conflict where the key was used for another amount."""
    why, now = _check_reason(reason), ctx.clock.now()
    if not 0 < amount_micros <= MAX_MICROS:
        raise Invalid("A credit is positive and at most $100,000.", field="amount", reason="out of range")
    if expires_at is not None and expires_at <= now:
        raise Invalid("This time is over already.", field="expires_at", reason="in the past")
    access.hold_account(db, account_id)
    grant_key = f"operator:{account_id}:{key}"[:180]
    is_new = credits.grant(
        db,
        key=grant_key,
        account_id=account_id,
        wallet_id=access.wallet_of(db, ctx, account_id),
        amount_micros=amount_micros,
        source="operator",
        expires_at=expires_at,
        note=why,
        now=now,
    )
    if is_new:
        amount = format_usd(amount_micros)
        audit.record(db, now, actor, "wallet.credit", account_id, account_id, amount=amount, reason=why)
        look(db, ctx, account_id)
    else:
        before = credits.find(db, grant_key)
        _check_same(before.amount_micros if before else amount_micros, amount_micros)
    return is_new


def correct(
    db: Session,
    ctx: Context,
    account_id: str,
    amount_micros: int,
    reason: str,
    actor: str,
    *,
    key: str,
    below_floor: bool = False,
) -> bool:
    """Set the books right by a positive or negative amount, once per `key`.

    Raises Invalid naming the field, Conflict for a key used for another amount, and PaymentRequired when a negative
    one would go below what may be used, unless the operator says `below_floor`.
    """
    why, now = _check_reason(reason), ctx.clock.now()
    if amount_micros == 0 or abs(amount_micros) > MAX_MICROS:
        raise Invalid("A correction is not zero and at most $100,000.", field="amount", reason="out of range")
    access.hold_account(db, account_id)
    wallet_id = access.wallet_of(db, ctx, account_id)
    other = ledger.platform_account(db, "corrections", now=now)
    done = ledger.post(
        db,
        key=f"correction:{account_id}:{key}"[:200],
        kind="correction",
        postings=[ledger.Posting(wallet_id, amount_micros), ledger.Posting(other, -amount_micros)],
        now=now,
        ref=account_id,
        note=why,
        below_floor=below_floor,
    )
    if done.is_new:
        amount = format_usd(amount_micros)
        audit.record(db, now, actor, "wallet.correction", account_id, account_id, amount=amount, reason=why)
        look(db, ctx, account_id)
    else:
        _check_same(ledger.amount_of(db, done.entry_id, wallet_id), amount_micros)
    return done.is_new


def redeem(db: Session, ctx: Context, account_id: str, code: str, actor: str) -> int:
    """Put a credit coupon into the wallet; returns the amount in micro-dollars. Raises Invalid saying why not."""
    access.hold_account(db, account_id)
    now = ctx.clock.now()
    coupon = coupons.check(db, code, account_id, now)
    if coupon.kind != CouponKind.CREDIT:
        raise Invalid(
            "This coupon is for a plan's price: enter it when you choose a plan.", field="coupon", reason="not credit"
        )
    person = once.prints_of(ctx.keys, signup.owner_of(db, account_id).user.email)
    if not once.take(db, once.coupon(coupon.id), person, None, now):
        raise Invalid("You have used this coupon already.", field="coupon", reason="used")
    if not coupons.redeem(db, coupon.id, account_id, None, now):
        coupons.check(db, code, account_id, now)
        raise Invalid("This coupon has been used up.", field="coupon", reason="used up")
    credits.grant(
        db,
        key=f"coupon:{coupon.id}:{account_id}",
        account_id=account_id,
        wallet_id=access.wallet_of(db, ctx, account_id),
        amount_micros=coupon.value,
        source="coupon",
        expires_at=None,
        note=f"Coupon {coupon.id}",
        now=now,
    )
    audit.record(db, now, actor, "wallet.coupon", account_id, account_id, coupon=coupon.id)
    look(db, ctx, account_id)
    return coupon.value


def _check_same(before_micros: int, amount_micros: int) -> None:
    if before_micros != amount_micros:
        raise Conflict(f"This key was used before for {format_usd(before_micros)}; nothing was booked.", field="key")


def _check_reason(reason: str) -> str:
    text = " ".join(reason.split())
    if not 3 <= len(text) <= 300:
        raise Invalid("Give a reason of 3 to 300 characters; the customer reads it.", field="reason", reason="length")
    return text
