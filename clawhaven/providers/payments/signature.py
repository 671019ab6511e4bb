"""Signed webhooks: `t=<unix seconds>,v1=<hex>`, HMAC-SHA256 over `{t}.{raw body}` (Stripe's scheme).

Source: Stripe, "Verify webhook signatures manually". Stricter than its SDK in one point: a time in the future
is refused like one in the past.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from clawhaven.ports.payments import BadSignature

TOLERANCE_SECONDS: Final = 300
_LONGEST_HEADER: Final = 4096


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The header's value for these raw bytes at `timestamp` (unix seconds)."""
    return f"t={timestamp},v1={_digest(secret, timestamp, body)}"


def verify(
    header: str, body: bytes, secrets: Sequence[str], now: datetime, tolerance_seconds: int = TOLERANCE_SECONDS
) -> int:
    """The signed time (unix seconds) when one of `secrets` signed these bytes close enough to `now`.

    Several secrets serve rotation. Schemes other than v1 are ignored. Raises BadSignature otherwise.
    """
    timestamp, signatures = _parse(header)
    expected = [_digest(secret, timestamp, body).encode() for secret in secrets if secret]
    if not expected:
        raise BadSignature("no secret is configured to check this signature with")
    # Every pair is compared, so that the time taken does not tell which secret is in use.
    matches = [hmac.compare_digest(good, given.encode()) for good in expected for given in signatures]
    if not any(matches):
        raise BadSignature("the signature does not match the body")
    if abs(now.timestamp() - timestamp) > tolerance_seconds:
        raise BadSignature("the signature is too old or from the future")
    return timestamp


def _digest(secret: str, timestamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _parse(header: str) -> tuple[int, list[str]]:
    if len(header) > _LONGEST_HEADER:
        raise BadSignature("the signature header is too long")
    times: list[str] = []
    signatures: list[str] = []
    for part in header.split(","):
        key, separator, value = part.strip().partition("=")
        if not separator:
            raise BadSignature("the signature header is malformed")
        if key == "t":
            times.append(value)
        elif key == "v1":
            signatures.append(value)
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()) or len(times[0]) > 12:
        raise BadSignature("the signature header has no single valid time")
    if not signatures:
        raise BadSignature("the signature header has no v1 signature")
    return int(times[0]), signatures
