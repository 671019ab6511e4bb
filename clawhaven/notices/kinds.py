"""The letters we write. Plain text; every one says what happened and what to do next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Letter:
    """A rendered message."""

    kind: str
    subject: str
    text: str


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


def receipt(brand: str, amount: str, plan: str) -> Letter:
    """A payment came in."""
    return Letter("receipt", f"Your payment to {brand}", f"We received {amount} for the plan {plan}. Thank you.\n")


def ready(brand: str, name: str, url: str, bot_url: str | None) -> Letter:
    """The assistant is live."""
    telegram = f"\nMake the Telegram bot yours with this one-time link:\n\n{bot_url}\n" if bot_url else ""
    return Letter("ready", f"{name} is ready", f"{name} is live. Talk to it here:\n\n{url}\n{telegram}\n{brand}\n")


def failed(brand: str, name: str, reason: str, url: str) -> Letter:
    """Provisioning failed and was undone."""
    return Letter(
        "instance_error",
        f"{name} could not be started",
        f"{reason}\n\nNothing is running and your payment is safe. Try again here:\n\n{url}\n\n{brand}\n",
    )


def suspended(brand: str, name: str, reason: str, url: str) -> Letter:
    """The assistant was suspended."""
    return Letter(
        "suspended",
        f"{name} is suspended",
        f"{name} was suspended ({reason}). Its data is kept. See what to do here:\n\n{url}\n\n{brand}\n",
    )


def resumed(brand: str, name: str, url: str) -> Letter:
    """The assistant runs again."""
    return Letter("resumed", f"{name} is back", f"{name} runs again:\n\n{url}\n\n{brand}\n")


def place_free(brand: str, url: str) -> Letter:
    """A place was freed for somebody on the waitlist."""
    return Letter("place_free", f"A place at {brand} is free", f"It is your turn. Sign up here:\n\n{url}\n")


def alert(subject: str, text: str) -> Letter:
    """For the operator."""
    return Letter("alert", subject, text)
