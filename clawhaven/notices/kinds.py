"""The letters we write. Plain text; every one says what happened and what to do next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Letter:
    """A rendered message."""

    kind: str
    subject: str
    text: str


def signed(kind: str, subject: str, brand: str, *paragraphs: str) -> Letter:
    """A letter of these paragraphs, with the brand at its end."""
    return Letter(kind, subject, "\n\n".join((*paragraphs, brand)) + "\n")


def moment(at: datetime) -> str:
    """`5 December 2026, 14:05 UTC`: how a letter names a time."""
    told = at.astimezone(UTC)
    return f"{told.day} {told:%B %Y, %H:%M} UTC"


def sign_in(brand: str, url: str) -> Letter:
    """The sign-in link."""
    return Letter(
        "sign_in",
        f"Sign in to {brand}",
        f"Open this link to sign in. It works once, for 15 minutes:\n\n{url}\n\n"
        "If you did not ask for it, you can ignore this mail.\n",
    )


def welcome(brand: str, name: str, url: str) -> Letter:
    """After sign-up, before payment."""
    return Letter(
        "welcome",
        f"Welcome to {brand}",
        f"Your assistant {name} is prepared. Finish the payment to bring it to life:\n\n{url}\n",
    )


def receipt(brand: str, amount: str, bought: str) -> Letter:
    """A payment came in. `bought`: what for, as in "the plan Personal"."""
    return Letter("receipt", f"Your payment to {brand}", f"We received {amount} for {bought}. Thank you.\n\n{brand}\n")


def ready(brand: str, name: str, url: str, bot_url: str | None) -> Letter:
    """The assistant is live."""
    telegram = f"\nMake the Telegram bot yours with this one-time link:\n\n{bot_url}\n" if bot_url else ""
    return Letter("ready", f"{name} is ready", f"{name} is live. Talk to it here:\n\n{url}\n{telegram}\n{brand}\n")


def failed(brand: str, name: str, reason: str, url: str) -> Letter:
    """Provisioning failed and was undone."""
    return signed(
        "instance_error",
        f"{name} could not be started",
        brand,
        reason,
        "Nothing is running and your payment is safe. Try again here:",
        url,
    )


def suspended(brand: str, name: str, reason: str, url: str) -> Letter:
    """The assistant was suspended, which customers read as "paused"; `reason` as in "a payment is missing"."""
    return signed(
        "suspended",
        f"{name} is paused",
        brand,
        f"{name} is paused: {reason}. Its data is kept. See what to do here:",
        url,
    )


def resumed(brand: str, name: str, url: str) -> Letter:
    """The assistant runs again."""
    return Letter("resumed", f"{name} is back", f"{name} runs again:\n\n{url}\n\n{brand}\n")


def payment_failed(brand: str, suspend_at: datetime, delete_at: datetime, url: str) -> Letter:
    """A payment failed; the time of grace begins."""
    return signed(
        "payment_failed",
        f"Your payment to {brand} did not work",
        brand,
        "We could not collect the payment for your plan. Your assistants go on for now.",
        f"If nothing is paid, they are paused on {moment(suspend_at)}, and deleted with all their data on"
        f" {moment(delete_at)}.",
        "Pay here, or change your payment method:",
        url,
    )


def suspension_near(brand: str, days: int, suspend_at: datetime, delete_at: datetime, url: str) -> Letter:
    """The time of grace is nearly over."""
    return signed(
        "suspension_near",
        f"Your assistants are paused in {_days(days)}",
        brand,
        f"The payment for your plan is still missing. Without it, your assistants stop on {moment(suspend_at)}."
        f" Their data is kept until {moment(delete_at)}, and is deleted then.",
        "Pay here and nothing changes:",
        url,
    )


def suspended_for_payment(brand: str, cause: str, delete_at: datetime, url: str) -> Letter:
    """Suspended by trouble with paying; `cause` is payment, refund, dispute or ended."""
    happened, way = _SUSPENDED[cause]
    return signed(
        "suspended",
        f"Your assistants at {brand} are paused",
        brand,
        f"{happened} Your assistants have stopped. Their data is kept until {moment(delete_at)}, and is deleted then.",
        way,
        url,
    )


def deletion_near(brand: str, cause: str, days: int, delete_at: datetime, url: str) -> Letter:
    """The announced deletion is near."""
    _, way = _SUSPENDED[cause]
    return signed(
        "deletion_near",
        f"Your assistants are deleted in {_days(days)}",
        brand,
        f"Your assistants are paused. On {moment(delete_at)} they are deleted with all their data, and nobody can"
        " bring them back after that.",
        way,
        url,
    )


def deleted(brand: str, names: str, url: str) -> Letter:
    """Deleted on the announced day."""
    return signed(
        "deleted",
        f"Your assistants at {brand} are deleted",
        brand,
        f"As announced, {names} and all data was deleted. Nothing is charged any more.",
        "You can begin anew at any time:",
        url,
    )


def recovered(brand: str, url: str) -> Letter:
    """The trouble is over."""
    return signed(
        "recovered",
        f"Your plan at {brand} is in order again",
        brand,
        "What was missing has been paid. Your plan goes on, and nothing will be paused or deleted. There is"
        " nothing for you to do.",
        "Your plan:",
        url,
    )


def cancel_scheduled(brand: str, end_at: datetime, delete_at: datetime, url: str) -> Letter:
    """The customer ends their plan with its period."""
    return signed(
        "cancel_scheduled",
        f"Your plan at {brand} ends on {end_at.astimezone(UTC):%Y-%m-%d}",
        brand,
        f"Your plan is cancelled and ends on {moment(end_at)}. Until then everything runs as before. Then your"
        f" assistants stop, and on {moment(delete_at)} they are deleted with all their data.",
        "You can take this back until the plan ends:",
        url,
    )


def cancel_undone(brand: str, renew_at: datetime, url: str) -> Letter:
    """The cancellation was taken back."""
    return signed(
        "cancel_undone",
        f"Your plan at {brand} goes on",
        brand,
        f"The cancellation was taken back. Your plan goes on and renews on {moment(renew_at)}.",
        "Your plan:",
        url,
    )


def trial_ending(brand: str, end_at: datetime, amount: str, url: str) -> Letter:
    """The trial becomes a payment."""
    return signed(
        "trial_ending",
        f"Your trial at {brand} ends on {end_at.astimezone(UTC):%Y-%m-%d}",
        brand,
        f"Your trial ends on {moment(end_at)}. Then {amount} is charged for the first period, less what a coupon"
        " takes off, and your assistants go on.",
        "To go on, do nothing. To stop, cancel before that time:",
        url,
    )


def refund_sent(brand: str, amount: str, reason: str, url: str) -> Letter:
    """The operator gives money back."""
    return signed(
        "refund_sent",
        f"{brand} returns {amount} to you",
        brand,
        f"We have returned {amount} of your payment: {reason}",
        "It goes to the payment method you paid with. Your bank shows it within about ten days.",
        "Your payments:",
        url,
    )


def bots_cut_off(brand: str, bots: Sequence[str], url: str) -> Letter:
    """The address was proven for the first time; bots that somebody connected before that are gone."""
    return signed(
        "bots_cut_off",
        "Connect your bot again",
        brand,
        "You have signed in by mail for the first time. Before that, anybody could have typed your address, so"
        " we have disconnected what was connected until then:",
        "\n".join(bots),
        "If that was you, connect it again, it takes a minute. If it was not, there is nothing for you to do:"
        " whoever it was cannot reach your account.",
        url,
    )


def refund_returned(brand: str, amount: str, url: str, *, is_plan: bool, is_dispute: bool) -> Letter:
    """What was given back did not reach the customer, or a bank decided anew: it counts as paid again."""
    why = "A dispute was decided anew" if is_dispute else "Your bank did not take what we had returned to you"
    where = "pays for your plan again" if is_plan else "is on your balance again"
    return signed(
        "refund_returned",
        f"{amount} counts as paid to {brand} again",
        brand,
        f"{why}, so {amount} came back to us. It {where}.",
        "If you still want it back, write to us: we will find another way. Your payments:",
        url,
    )


_SUSPENDED = {
    "payment": (
        "The payment for your plan is still missing.",
        "Pay here, and they start again by themselves:",
    ),
    "refund": (
        "The payment for this period of your plan was returned.",
        "If you want to go on, see your plan here, or write to us:",
    ),
    "dispute": (
        "The payment for your plan is disputed at your bank.",
        "If this is a mistake, take the dispute back at your bank and write to us. See your plan here:",
    ),
    "ended": (
        "Your plan has ended.",
        "Choose a plan again here, and they start again with everything they know:",
    ),
}


def _days(days: int) -> str:
    return "one day" if days == 1 else f"{days} days"


def place_free(brand: str, url: str) -> Letter:
    """A place was freed for somebody on the waitlist."""
    return Letter("place_free", f"A place at {brand} is free", f"It is your turn. Sign up here:\n\n{url}\n")


def alert(subject: str, text: str) -> Letter:
    """For the operator."""
    return Letter("alert", subject, text)
