"""Disputes and payments that went back: the operator hears of each, once."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from clawhaven.billing.models import Receipt
from clawhaven.context import Context
from clawhaven.core.money import format_usd
from clawhaven.notices import kinds, outbox
from clawhaven.workflows import letters


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
