"""Letters about the prepaid balance. Amounts come as text (`$10.00`)."""

from __future__ import annotations

from clawhaven.notices.kinds import Letter, signed


def low(brand: str, balance: str, line: str, url: str) -> Letter:
    """Not much is left above the line."""
    return signed(
        "balance_low",
        f"Your balance at {brand} is low",
        brand,
        f"Your balance is {balance}. Your assistants answer as long as it is above {line}.",
        "Top up before it is used up:",
        url,
    )


def depleted(brand: str, balance: str, line: str, wait: str, url: str) -> Letter:
    """Calls are refused from now on."""
    return signed(
        "balance_depleted",
        f"Your balance at {brand} is used up",
        brand,
        f"Your balance is {balance}. It has to be above {line} by what an answer may cost, so your assistants"
        f" cannot answer at the moment. {wait} Everything is kept.",
        "Top up here; your assistants go on by themselves:",
        url,
    )


def first_topup(brand: str, balance: str, line: str, wait: str, url: str) -> Letter:
    """A metered account that has never had more than the line."""
    return signed(
        "balance_depleted",
        f"One step left at {brand}: your first top-up",
        brand,
        f"Your balance is {balance}. Metered assistants answer while it is above {line}, so one step is left: top"
        f" up. {wait} Everything is kept, and they start by themselves.",
        url,
    )


def restored(brand: str, balance: str) -> Letter:
    """There is credit again."""
    return signed(
        "balance_restored",
        "Your assistants answer again",
        brand,
        f"Your balance is {balance}. Your assistants answer again.",
    )


def auto_failed(brand: str, amount: str, why: str, url: str) -> Letter:
    """The saved method could not be charged; it is not tried again by itself."""
    return signed(
        "auto_topup_failed",
        f"Your automatic top-up at {brand} did not work",
        brand,
        f"We could not top up your balance by {amount}. {why} We will not try again by ourselves.",
        "Top up here, or check your payment method:",
        url,
    )


def auto_confirm(brand: str, amount: str, url: str) -> Letter:
    """The bank wants to see the customer."""
    return signed(
        "auto_topup_failed",
        f"Confirm your automatic top-up at {brand}",
        brand,
        f"Your bank wants you to confirm the top-up of {amount}. Nothing was charged yet. Confirm it here:",
        url,
    )


def auto_link(brand: str, amount: str, balance: str, url: str, topup_url: str) -> Letter:
    """Where nothing can be charged by itself: one tap to pay."""
    return signed(
        "auto_topup_link",
        f"Top up your balance at {brand}",
        brand,
        f"Your balance is {balance}. Pay the {amount} of your automatic top-up here:",
        url,
        "If this link has expired, top up here:",
        topup_url,
    )
