"""Letters about what is spent: a limit is reached, automatic calls pause, an hour was dear, an invoice differs."""

from __future__ import annotations

from clawhaven.core.languages import Phrase as _
from clawhaven.notices.kinds import Letter, signed


def automatic_paused(brand: str, name: str, allowance: str, step: str, url: str, usage_url: str) -> Letter:
    """The day's allowance for what an assistant does by itself is used up."""
    return signed(
        "automatic_paused",
        _("%(name)s has paused what it does by itself", name=name),
        brand,
        _(
            "Today %(name)s has used %(allowance)s for heartbeats, reminders and other things it does"
            " without being asked. That is the allowance for a day, so these wait until midnight UTC. It"
            " answers your messages as before.",
            name=name,
            allowance=allowance,
        ),
        _("Let it go on today, for another %(step)s, with one tap:", step=step),
        url,
        _("What it was used for:"),
        usage_url,
    )


def limit_reached(brand: str, name: str, limit: str, url: str) -> Letter:
    """The customer's own limit a day for an assistant; without a name: for all of them."""
    what = name or _("all your assistants")
    return signed(
        "spend_limit_reached",
        _("Your limit of %(limit)s a day at %(brand)s is reached", limit=limit, brand=brand),
        brand,
        _(
            "You have set a limit of %(limit)s a day for %(what)s. The next answer could go beyond it, so"
            " there are none until midnight UTC, or until you change the limit:",
            limit=limit,
            what=what,
        ),
        url,
    )


def spike(email: str, spent: str, hour: str, usual: str, url: str) -> Letter:
    """For the operator: an account's hour beyond what is usual for it."""
    return Letter(
        "alert",
        f"{email} has spent {spent} within an hour",
        f"In the hour from {hour} UTC the assistants of {email} have used {spent}. The dearest hours of their last"
        f" seven days (95th percentile) were {usual}.\n\nSee {url}\n",
    )


def uncovered(day: str, amount: str, accounts: list[str], more: int, url: str) -> Letter:
    """For the operator: calls of a day cost more than was set aside for them and their wallets had."""
    rest = [f"… and {more} more"] if more else []
    listed = "\n".join(f"- {line}" for line in [*accounts, *rest])
    return Letter(
        "alert",
        f"Usage for {amount} was covered by no balance",
        f"On {day} (UTC) answers cost {amount} more than was set aside for them and their wallets had. Nobody paid for"
        f" it:\n\n{listed}\n\nAs a rule less is set aside for a call than its vendor can charge: a price is missing"
        f" something. What came after this letter is in the month's margin.\n\nSee {url}\n",
    )


def invoice_differs(vendor: str, lines: list[str], more: int, url: str) -> Letter:
    """For the operator: a vendor's own figures are not ours."""
    rest = [f"… and {more} more"] if more else []
    listed = "\n".join(f"- {line}" for line in [*lines, *rest])
    return Letter(
        "alert",
        f"{vendor}'s figures differ from ours",
        f"What {vendor} says it served is not what is in our books:\n\n{listed}\n\n"
        f"More: calls that reached {vendor} on another way than the proxy, or that were never acknowledged. Less:"
        f" prices, or estimates, that are too high. See {url}, or `clawhaven admin usage compare`.\n",
    )
