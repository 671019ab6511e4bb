"""Money in another currency than US dollars: nothing is given for it, it goes back, and everybody is told why.

It comes of a price of the operator's own (STRIPE_PRICES), or of an invoice made by hand at the vendor. The books know
dollars only: such a payment is in none of them, and whatever else the vendor says of the agreement is followed.
"""

from __future__ import annotations

import dataclasses

from sqlalchemy.orm import Session

from clawhaven.accounts import directory
from clawhaven.billing.checkouts import CheckoutState
from clawhaven.billing.models import Checkout
from clawhaven.context import Context
from clawhaven.core.logs import get_logger
from clawhaven.notices import kinds
from clawhaven.notices import wallet as words
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.payments import Capability, ForeignPayment, VendorState
from clawhaven.workflows import letters

log = get_logger("clawhaven.foreign")


def refuse(db: Session, ctx: Context, checkout: Checkout, seen: VendorState) -> VendorState:
    """Tell of such payments, once each; returns what the vendor says without them.

    A checkout that nothing else was paid for counts as cancelled: its draft goes, and what it began at the vendor ends.
    """
    for one in seen.foreign:
        _tell(db, ctx, checkout, one)
    is_only = bool(seen.foreign) and not seen.payments and checkout.state != CheckoutState.COMPLETED
    return dataclasses.replace(seen, checkout_state="cancelled") if is_only else seen


def give_back(ctx: Context, checkout: Checkout, seen: VendorState) -> None:
    """Return them, once each. No transaction may be open. Raises ProviderError for a vendor that does not answer; one
    that refuses for good, or gives nothing back from here, leaves it to the operator, who was told."""
    provider = ctx.payment(checkout.provider)
    if Capability.REFUND not in provider.capabilities:
        return
    for one in seen.foreign:
        if one.is_returned:
            continue
        try:
            provider.refund(one.reference, None, f"foreign:{one.reference}")
        except ProviderError as error:
            if not error.permanent:
                raise
            log.warning("a foreign payment could not be returned", checkout=checkout.id, code=error.code)


def _tell(db: Session, ctx: Context, checkout: Checkout, one: ForeignPayment) -> None:
    gone, settings = directory.get(db, checkout.account_id), ctx.settings
    can_refund = Capability.REFUND in ctx.payment(checkout.provider).capabilities
    act = (
        f"It is being returned. Should {checkout.provider} still show it as kept in an hour, return it there by hand."
        if can_refund
        else f"{checkout.provider} gives nothing back from here: return it on its own site."
    )
    text = (
        f"{one.paid} was paid at {checkout.provider}, and this installation sells in US dollars only. Nothing was"
        f" booked, and nothing is given for it. {act}\n\n"
        f"Payment: {one.reference} at {checkout.provider}\nCustomer: {gone.user.email}\n"
        f"Account: {settings.base_url}/admin/accounts/{checkout.account_id}\n\n"
        "It comes of a price in that currency (STRIPE_PRICES), or of an invoice that was made by hand. Sell in US"
        " dollars there; a subscription that renews in another currency has to be ended or moved.\n"
    )
    key = f"foreign:{checkout.provider}:{one.reference}"
    letter = kinds.alert(f"A payment of {one.paid} cannot be taken: {gone.user.email}"[:200], text)
    letters.post_to(db, ctx, key, letter, settings.support_address)
    told = words.foreign_payment(settings.brand_name, one.paid, settings.support_address)
    letters.post(db, ctx, f"{key}:owner", told, checkout.account_id)
