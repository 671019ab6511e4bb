"""Disputes and payments that went back: the operator hears of each, once; a disputed top-up is not spent meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.accounts import directory
from clawhaven.billing import wallet
from clawhaven.billing.models import Receipt
from clawhaven.context import Context
from clawhaven.core.money import format_usd
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.notices import kinds, outbox
from clawhaven.ports.payments import Capability
from clawhaven.workflows import access, letters, lifecycle

INQUIRIES = ("inquiry", "inquiry_closed")
"""A bank asks about a payment and has taken no money, and may never."""


def alert(db: Session, ctx: Context, receipts: Sequence[Receipt]) -> None:
    """Tell the operator of every dispute, every verdict, every question of a bank, and every payment that was given
    back in full."""
    keys: dict[str, tuple[Receipt, str | None]] = {
        f"dispute:{one.id}:{one.dispute}": (one, one.dispute) for one in receipts if one.dispute
    }
    for one in receipts:
        if one.dispute in (None, *INQUIRIES) and 0 < one.amount_micros <= one.refunded_micros:
            keys[f"refunded:{one.id}"] = (one, None)
    if not keys:
        return
    for key in sorted(keys.keys() - outbox.known(db, keys)):
        one, word = keys[key]
        who, amount = directory.get(db, one.account_id).user.email, format_usd(one.amount_micros)
        what = _VERDICTS.get(word, word) if word else "was given back in full"
        text = (
            f"A payment of {amount} by {who} {what}.\n\n"
            f"Customer: {who}\nAmount: {amount}\n{_part(one) + _deadline(one) if word else ''}"
            f"Payment: {one.reference} at {one.provider}, of {one.created_at:%Y-%m-%d}\n"
            f"Account: {ctx.settings.base_url}/admin/accounts/{one.account_id}\n\n{_consequence(ctx, one, word)}\n"
        )
        letter = kinds.alert(f"A payment of {amount} {what}: {who}"[:200], text)
        letters.post_to(db, ctx, key, letter, ctx.settings.support_address)


_VERDICTS = {
    "open": "is disputed at their bank",
    "won": "was disputed, and the dispute is won",
    "lost": "was disputed, and the dispute is lost",
    "inquiry": "is asked about by their bank",
    "inquiry_closed": "was asked about by their bank, which has closed the matter",
}
_NOTHING = "Nothing is suspended"


def _amount(receipt: Receipt) -> int:
    return receipt.amount_micros if receipt.disputed_micros is None else receipt.disputed_micros


def _part(receipt: Receipt) -> str:
    is_whole = _amount(receipt) >= receipt.amount_micros
    return "" if is_whole else f"Disputed of it: {format_usd(_amount(receipt))}\n"


def _deadline(receipt: Receipt) -> str:
    if receipt.dispute not in ("open", "inquiry"):
        return ""
    if receipt.dispute_due_at is None:
        return f"Answer by: {receipt.provider} does not tell; look there today\n"
    return f"Answer by: {kinds.moment(receipt.dispute_due_at)}\n"


def _consequence(ctx: Context, receipt: Receipt, word: str | None) -> str:
    """What happens now by the operator's settings, and what is left to do."""
    settings = ctx.settings
    if word == "won":
        return "The money is ours. What was suspended, set aside or held back for it goes on by itself."
    if word == "lost":
        down = "A plan's assistants stay suspended until its next payment" if settings.suspend_on_dispute else _NOTHING
        gone = "What was disputed is gone" if _part(receipt) else "The money is gone"
        return f"{gone}, and booked so. {down}. Renewals go on: end the subscription if they should not."
    if word is None:
        down = "A plan's assistants are suspended" if settings.suspend_on_refund else _NOTHING
        return f"{down} (SUSPEND_ON_REFUND)."
    if word == "inquiry_closed":
        return "No money was taken, and nothing changes."
    if word == "inquiry":
        return (
            f"It is not a dispute: no money was taken, and nothing is suspended. Answer it on {receipt.provider}'s own"
            " site, or give the money back; without an answer it can become a dispute."
        )
    answer = f"Answer it on {receipt.provider}'s own site; without an answer it is lost."
    if not settings.suspend_on_dispute:
        return f"{answer} {_NOTHING} (SUSPEND_ON_DISPUTE)."
    provider = ctx.payments.get(receipt.provider)
    can_pause = provider is not None and Capability.PAUSE in provider.capabilities
    charged = (
        "no renewal is charged"
        if can_pause
        else f"but {receipt.provider} goes on charging renewals, which cannot be stopped from here: pause them there"
    )
    return (
        f"{answer} Meanwhile a plan's assistants are suspended and {charged}; a top-up is set aside"
        " (SUSPEND_ON_DISPUTE)."
    )


def of_topups(db: Session, ctx: Context, account_id: str | None = None) -> list[Receipt]:
    """Top-ups, of one account or of all, that do not count while they are disputed; none where the operator lets them
    count (SUSPEND_ON_DISPUTE)."""
    return wallet.disputed_topups(db, account_id) if ctx.settings.suspend_on_dispute else []


def set_aside(db: Session, ctx: Context, account_id: str) -> bool:
    """Hold what is disputed of an account's top-ups, and free what is not any more; True while some is disputed."""
    disputed = of_topups(db, ctx, account_id)
    if disputed or wallet.set_aside(db, account_id):
        # Assistants first, the ledger after them: everybody who locks does so in this order.
        mine = select(Instance.id).where(Instance.account_id == account_id, Instance.state != State.DELETED)
        for instance_id in db.scalars(mine.order_by(Instance.id)).all():
            lifecycle.locked(db, instance_id)
        amounts = {one.id: min(_amount(one), one.amount_micros - one.refunded_micros) for one in disputed}
        wallet.keep_aside(db, account_id, access.wallet_of(db, ctx, account_id), amounts, ctx.clock.now())
    return bool(disputed)
