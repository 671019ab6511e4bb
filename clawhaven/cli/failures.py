"""What ends a command early: a sentence, what to do next, and the exit code a script can rely on."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """Exit codes of every client command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    AUTH = 3
    NOT_FOUND = 4
    AT_CAPACITY = 5


class Failure(Exception):
    """An expected failure. `hint` says what to do next; `details` is what the API added, for programs."""

    def __init__(
        self,
        message: str,
        exit_code: ExitCode = ExitCode.FAILED,
        *,
        hint: str = "",
        code: str = "failed",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message, self.exit_code, self.hint, self.code = message, exit_code, hint, code
        self.details = dict(details or {})

    def as_json(self) -> dict[str, Any]:
        """The same shape as the API's errors."""
        return {"error": self.code, "message": self.message, "details": self.details}


HINTS: tuple[tuple[str, str], ...] = (
    ("/api/admin/accounts/", "See `clawhaven admin accounts` for who there is."),
    ("/api/admin/receipts/", "See `clawhaven admin account ACCOUNT` for a customer's payments."),
    ("/api/admin/coupons/", "See `clawhaven admin coupon list`."),
    ("/api/admin", "This is for operators: `clawhaven auth whoami` says who you are here."),
    ("/api/instances/", "See `clawhaven instances list` for what is yours."),
    ("/api/billing/subscriptions/", "See `clawhaven billing plan show` for what is yours."),
)
"""What to look at when something is not found, by the beginning of the path that was asked for."""


def from_answer(
    status: int, code: str, message: str, details: Mapping[str, Any], *, has_key: bool, path: str = ""
) -> Failure:
    """The failure an API error stands for; `path` is what was asked for."""
    exit_code, hint = ExitCode.FAILED, ""
    if status == 401:
        exit_code = ExitCode.AUTH
        hint = "Run `clawhaven auth login`" + (" to make a new API key." if has_key else " first.")
    elif status == 403:
        exit_code = ExitCode.AUTH
        hint = "See `clawhaven auth whoami`: this API key may be for reading only."
        if details.get("scope") == "admin":
            hint = "Run `clawhaven auth login --admin` to make a key that may do this."
    elif status == 404:
        exit_code = ExitCode.NOT_FOUND
        hint = next((hint for beginning, hint in HINTS if path.startswith(beginning)), "")
    elif code == "at_capacity":
        exit_code = ExitCode.AT_CAPACITY
        hint = f"Join the waitlist: {details['waitlist_url']}" if details.get("waitlist_url") else "Try again later."
    elif status == 429 and "retry_after" in details:
        hint = f"Try again in {details['retry_after']} seconds."
    elif status >= 500:
        hint = "Try again in a minute; if it stays so, ask the operator (`clawhaven doctor` on the server)."
    return Failure(message, exit_code, hint=hint, code=code, details=details)
