"""Letters about the account itself: a new address, its proof, the end."""

from __future__ import annotations

from clawhaven.core.languages import Phrase as _
from clawhaven.notices.kinds import Letter, signed


def prove_address(brand: str, url: str) -> Letter:
    """To the new address: the link that proves it."""
    return signed(
        "email_prove",
        _("Confirm your new address at %(brand)s", brand=brand),
        brand,
        _("Open this link to use this address for your account. It works once, for an hour:"),
        url,
        _("If you did not ask for it, you can ignore this mail."),
    )


def address_taken(brand: str, url: str) -> Letter:
    """To an address that somebody wanted to move to, and that has an account already."""
    return signed(
        "email_taken",
        _("This address has an account at %(brand)s", brand=brand),
        brand,
        _(
            "Somebody who is signed in to another account wanted to use this address for it. Nothing was"
            " changed: this address has an account of its own. If that was you, sign in with it here:"
        ),
        url,
    )


def address_asked(brand: str, support: str) -> Letter:
    """To the present address: somebody asked for another one."""
    return signed(
        "email_asked",
        _("A new address for your account at %(brand)s", brand=brand),
        brand,
        _(
            "Somebody who is signed in to your account asked to use another mail address for it. It changes"
            " once a link that we mailed there is opened."
        ),
        _("If that was not you, sign out everywhere in the settings now, and write to %(support)s.", support=support),
    )


def address_changed(brand: str, support: str) -> Letter:
    """To the address that was theirs until now."""
    return signed(
        "email_changed",
        _("Your account at %(brand)s has a new address", brand=brand),
        brand,
        _("From now on you sign in with your new address. This one is not used any more."),
        _("If that was not you, write to %(support)s at once.", support=support),
    )


def confirm_deletion(brand: str, url: str, support: str) -> Letter:
    """To the account's address: the link that confirms its end."""
    return signed(
        "account_deletion_confirm",
        _("Delete your account at %(brand)s?", brand=brand),
        brand,
        _(
            "Somebody asked to delete your account: your assistants with all they keep, your plans, everything. Open"
            " this link to confirm it. It works once, for an hour:"
        ),
        url,
        _(
            "If that was not you, open nothing: nothing is deleted. Sign out everywhere in the settings, revoke the API"
            " keys there, and write to %(support)s.",
            support=support,
        ),
    )


def deletion_begun(brand: str, support: str) -> Letter:
    """The account is closed; what belongs to it is being removed."""
    return signed(
        "account_deletion",
        _("Your account at %(brand)s is being deleted", brand=brand),
        brand,
        _(
            "You are signed out everywhere, nothing is charged any more, and your assistants are being"
            " removed with all they kept. We write once more when all of it is gone."
        ),
        _("If that was not you, write to %(support)s at once.", support=support),
    )


def deleted(brand: str, account_id: str, balance: str, support: str) -> Letter:
    """The last one. `balance`: what was left, as `$12.50`; empty: nothing."""
    rest = (
        _(
            "%(balance)s was left on your balance. To have back what you had paid in of it, write to"
            " %(support)s and name the number %(account_id)s.",
            balance=balance,
            support=support,
            account_id=account_id,
        )
        if balance
        else _(
            "Our books keep what was paid, under the number %(account_id)s and without your name.",
            account_id=account_id,
        )
    )
    return signed(
        "account_deleted",
        _("Your account at %(brand)s is deleted", brand=brand),
        brand,
        _(
            "Your assistants, their data and everything that named you are removed. The books keep what the"
            " law asks for."
        ),
        rest,
        _("This address is free again: you are welcome to begin anew at any time."),
    )
