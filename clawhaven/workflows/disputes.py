"""Disputes and payments that went back: the operator hears of each, once; a disputed top-up is not spent meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from clawhaven.billing import wallet
from clawhaven.billing.models import Receipt
from clawhaven.context import Context
from clawhaven.core.money import format_usd
from clawhaven.instances.models import Instance
from clawhaven.instances.states import State
from clawhaven.notices import kinds, outbox
from clawhaven.workflows import access, letters, lifecycle


def alert(db: Session, ctx: Context, receipts: Sequence[Receipt]) -> None:
    """Tell the operator of every dispute, every verdict, and every payment that was given back in full."""
    keys = {f"dispute:{one.id}:{one.dispute}": one for one in receipts if one.dispute}
    for one in receipts:
        if not one.dispute and 0 < one.amount_micros <= one.refunded_micros:
            keys[f"refunded:{one.id}"] = one
    if not keys:
        return
    for key in sorted(keys.keys() - outbox.known(db, keys)):
        one, amount = keys[key], format_usd(keys[key].amount_micros)
        what = f"is disputed ({one.dispute})" if one.dispute else "was given back in full"
        text = (
            f"The payment {one.reference} of {amount} at {one.provider} {what}.\n\nAccount: {one.account_id}\n"
            "What the assistants do is set by SUSPEND_ON_DISPUTE and SUSPEND_ON_REFUND. Answer a dispute on the"
            f" vendor's own site.\n\nSee {ctx.settings.base_url}/admin\n"
        )
        letters.post_to(db, ctx, key, kinds.alert(f"A payment of {amount} {what}", text), ctx.settings.support_address)


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
        amounts = {one.id: one.amount_micros - one.refunded_micros for one in disputed}
        wallet.keep_aside(db, account_id, access.wallet_of(db, ctx, account_id), amounts, ctx.clock.now())
    return bool(disputed)
