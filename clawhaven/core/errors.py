"""The errors a person may see. One tree; every door renders it once.

AppError
├── Invalid            400 validation_failed
├── Unauthorized       401 unauthorized
├── PaymentRequired    402 payment_required
├── Forbidden          403 forbidden
├── NotFound           404 not_found
├── Conflict           409 already_exists
│   └── IllegalMove    409 illegal_move
├── TooLarge           413 too_large
├── RateLimited        429 rate_limited
├── AtCapacity         503 at_capacity
└── Unavailable        503 unavailable
"""

from __future__ import annotations

from typing import Any, ClassVar


class AppError(Exception):
    """An expected failure with a stable code, an HTTP status and a sentence a person can act on."""

    code: ClassVar[str] = "internal_error"
    status: ClassVar[int] = 500

    def __init__(self, message: str, *, code: str | None = None, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.error_code = code or self.code

    def as_json(self) -> dict[str, Any]:
        """The wire form: `{"error": code, "message": sentence, "details": {…}}`."""
        return {"error": self.error_code, "message": self.message, "details": self.details}


class Invalid(AppError):
    """Input that can never succeed as it stands; `details.field` and `details.reason` say why."""

    code = "validation_failed"
    status = 400


class Unauthorized(AppError):
    """No valid session or API key."""

    code = "unauthorized"
    status = 401


class PaymentRequired(AppError):
    """The wallet cannot cover the worst case of what was asked."""

    code = "payment_required"
    status = 402


class Forbidden(AppError):
    """Signed in, but not allowed to do this."""

    code = "forbidden"
    status = 403


class NotFound(AppError):
    """No such thing, or it belongs to somebody else: the answer is the same."""

    code = "not_found"
    status = 404


class Conflict(AppError):
    """Something with this key exists already."""

    code = "already_exists"
    status = 409


class IllegalMove(Conflict):
    """The thing is in a state from which this action is not possible."""

    code = "illegal_move"


class TooLarge(AppError):
    """The body is larger than this endpoint accepts."""

    code = "too_large"
    status = 413


class RateLimited(AppError):
    """Too many requests; `details.retry_after` is in seconds."""

    code = "rate_limited"
    status = 429


class AtCapacity(AppError):
    """Every place is taken; `details.waitlist_url` is where to queue."""

    code = "at_capacity"
    status = 503


class Unavailable(AppError):
    """Something this needs is down at the moment; trying again later may work."""

    code = "unavailable"
    status = 503
