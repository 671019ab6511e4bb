"""Letters about the prepaid balance. Amounts come as text (`$10.00`)."""

from __future__ import annotations

from clawhaven.core.languages import Phrase
from clawhaven.core.languages import Phrase as _
from clawhaven.notices.kinds import Letter, signed
from clawhaven.notices.kinds import Said as Said


def without_disputed(balance: Said, disputed: str) -> Said:
    """A balance of which a part does not count for now."""
    return _(
        "%(balance)s (without %(disputed)s that is set aside while a payment is disputed)",
        balance=balance,
        disputed=disputed,
    )


def low(brand: str, balance: Said, line: str, url: str) -> Letter:
    """Not much is left above the line."""
    return signed(
        "balance_low",
        _("Your balance at %(brand)s is low", brand=brand),
        brand,
        _(
            "Your balance is %(balance)s. Your assistants answer as long as it is above %(line)s.",
            balance=balance,
            line=line,
        ),
        _("Top up before it is used up:"),
        url,
    )


def depleted(brand: str, balance: Said, line: str, minutes: int, url: str) -> Letter:
    """Calls are refused from now on, and after so many minutes the assistants stop."""
    wait = _wait(minutes)
    return signed(
        "balance_depleted",
        _("Your balance at %(brand)s is used up", brand=brand),
        brand,
        _(
            "Your balance is %(balance)s. It has to be above %(line)s by what an answer may cost, so your"
            " assistants cannot answer at the moment. %(wait)s Everything is kept.",
            balance=balance,
            line=line,
            wait=wait,
        ),
        _("Top up here; your assistants go on by themselves:"),
        url,
    )


def first_topup(brand: str, balance: Said, line: str, minutes: int, url: str) -> Letter:
    """A metered account that has never had more than the line."""
    wait = _wait(minutes)
    return signed(
        "balance_depleted",
        _("One step left at %(brand)s: your first top-up", brand=brand),
        brand,
        _(
            "Your balance is %(balance)s. Metered assistants answer while it is above %(line)s, so one step"
            " is left: top up. %(wait)s Everything is kept, and they start by themselves.",
            balance=balance,
            line=line,
            wait=wait,
        ),
        url,
    )


def restored(brand: str, balance: Said) -> Letter:
    """There is credit again."""
    return signed(
        "balance_restored",
        _("Your assistants answer again"),
        brand,
        _("Your balance is %(balance)s. Your assistants answer again.", balance=balance),
    )


def auto_failed(brand: str, amount: str, why: str, url: str) -> Letter:
    """The saved method could not be charged; it is not tried again by itself. `why`: a sentence."""
    because = Phrase(why)
    return signed(
        "auto_topup_failed",
        _("Your automatic top-up at %(brand)s did not work", brand=brand),
        brand,
        _(
            "We could not top up your balance by %(amount)s. %(because)s We will not try again by ourselves.",
            amount=amount,
            because=because,
        ),
        _("Top up here, or check your payment method:"),
        url,
    )


def auto_confirm(brand: str, amount: str, url: str) -> Letter:
    """The bank wants to see the customer."""
    return signed(
        "auto_topup_failed",
        _("Confirm your automatic top-up at %(brand)s", brand=brand),
        brand,
        _(
            "Your bank wants you to confirm the top-up of %(amount)s. Nothing was charged yet. Confirm it here:",
            amount=amount,
        ),
        url,
    )


def auto_link(brand: str, amount: str, balance: str, url: str, topup_url: str) -> Letter:
    """Where nothing can be charged by itself: one tap to pay."""
    return signed(
        "auto_topup_link",
        _("Top up your balance at %(brand)s", brand=brand),
        brand,
        _(
            "Your balance is %(balance)s. Pay the %(amount)s of your automatic top-up here:",
            balance=balance,
            amount=amount,
        ),
        url,
        _("If this link has expired, top up here:"),
        topup_url,
    )


def foreign_payment(brand: str, paid: str, support: str) -> Letter:
    """A payment in another currency than dollars goes back. `paid`: `49.00 EUR`."""
    return signed(
        "foreign_payment",
        _("We return your payment of %(paid)s", paid=paid),
        brand,
        _(
            "You paid %(paid)s, and we can take US dollars only. Nothing was given for it, and it goes back the way it"
            " came; banks take some days. That was our mistake, not yours.",
            paid=paid,
        ),
        _("If it has not come back within two weeks, write to %(support)s.", support=support),
    )


def _wait(minutes: int) -> Said:
    if not minutes:
        return _("They are paused now.")
    return _("They are paused in %(minutes)s minutes.", minutes=minutes)
