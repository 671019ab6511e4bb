"""Letters about what is spent: a limit is reached, automatic calls pause, an hour was dear, an invoice differs."""

from __future__ import annotations

from clawhaven.notices.kinds import Letter


def automatic_paused(brand: str, name: str, allowance: str, step: str, url: str, usage_url: str) -> Letter:
    """The day's allowance for what an assistant does by itself is used up."""
    return Letter(
        "automatic_paused",
        f"{name} has paused what it does by itself",
        f"Today {name} has used {allowance} for heartbeats, reminders and other things it does without being asked."
        " That is the allowance for a day, so these wait until midnight UTC. It answers your messages as before.\n\n"
        f"Let it go on today, for another {step}, with one tap:\n\n{url}\n\n"
        f"What it was used for:\n\n{usage_url}\n\n{brand}\n",
    )


def limit_reached(brand: str, what: str, limit: str, url: str) -> Letter:
    """The customer's own limit a day; `what`: an assistant's name, or "all your assistants"."""
    return Letter(
        "spend_limit_reached",
        f"Your limit of {limit} a day at {brand} is reached",
        f"You have set a limit of {limit} a day for {what}. The next answer could go beyond it, so there are none until"
        f" midnight UTC, or until you change the limit:\n\n{url}\n\n{brand}\n",
    )


def spike(email: str, spent: str, hour: str, usual: str, url: str) -> Letter:
    """For the operator: an account's hour beyond what is usual for it."""
    return Letter(
        "alert",
        f"{email} has spent {spent} within an hour",
        f"In the hour from {hour} UTC the assistants of {email} have used {spent}. The dearest hours of their last"
        f" seven days (95th percentile) were {usual}.\n\nSee {url}\n",
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
