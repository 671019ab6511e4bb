"""Signed webhooks: one place for the three schemes in use, several secrets at once for rotation, raw bytes only.

- `sign`/`verify`: Stripe, `t=<unix seconds>,v1=<hex>` over `{t}.{raw body}`, the secret as text.
  Source: Stripe, "Verify webhook signatures manually". Stricter than its SDK in one point: a time in the future is
  refused like one in the past.
- `sign_body`/`verify_body`: Creem, hex over the raw body, no time: the inbox keeps old events from counting twice.
  Source: docs.creem.io, "Webhooks".
- `sign_svix`/`verify_svix`: Svix (Clerk, Resend), `v1,<base64>` over `{id}.{t}.{raw body}`, the secret's base64 part.
  Source: docs.svix.com, "Verifying webhooks manually".

Whatever is wrong with a header is BadSignature, never another exception.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from clawhaven.ports.payments import BadSignature

TOLERANCE_SECONDS: Final = 300
_LONGEST_HEADER: Final = 4096
_SVIX_PREFIX: Final = "whsec_"


def sign(secret: str, timestamp: int, body: bytes) -> str:
    """The header's value for these raw bytes at `timestamp` (unix seconds)."""
    return f"t={timestamp},v1={_stripe_digest(secret, timestamp, body)}"


def verify(
    header: str, body: bytes, secrets: Sequence[str], now: datetime, tolerance_seconds: int = TOLERANCE_SECONDS
) -> int:
    """The signed time (unix seconds) when one of `secrets` signed these bytes close enough to `now`.

    Several secrets serve rotation. Schemes other than v1 are ignored. Raises BadSignature otherwise.
    """
    timestamp, signatures = _parse(header)
    _match([_stripe_digest(secret, timestamp, body) for secret in secrets if secret], signatures)
    _check_age(timestamp, now, tolerance_seconds)
    return timestamp


def sign_body(secret: str, body: bytes) -> str:
    """The header's value for these raw bytes, without a time."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify_body(header: str, body: bytes, secrets: Sequence[str]) -> None:
    """Return when one of `secrets` signed these bytes. Raises BadSignature otherwise."""
    _check_length(header)
    _match([sign_body(secret, body) for secret in secrets if secret], [header])


def sign_svix(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `svix-signature`. ValueError when the secret is not base64 after `whsec_`."""
    text = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(_svix_key(secret), text, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def verify_svix(
    message_id: str,
    timestamp: str,
    header: str,
    body: bytes,
    secrets: Sequence[str],
    now: datetime,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> int:
    """The signed time, from the headers `svix-id`, `svix-timestamp` and `svix-signature`. Raises BadSignature.

    A secret that is not base64 is an error of the operator's; it signs nothing here.
    """
    for value in (message_id, timestamp, header):
        _check_length(value)
    if not message_id.isascii():
        raise BadSignature("the signature header has no valid id")
    seconds = _seconds([timestamp])
    expected = []
    for secret in secrets:
        try:
            expected.append(sign_svix(secret, message_id, seconds, body))
        except ValueError:
            continue
    _match(expected, header.split(" "))
    _check_age(seconds, now, tolerance_seconds)
    return seconds


def _stripe_digest(secret: str, timestamp: int, body: bytes) -> str:
    return hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()


def _svix_key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(_SVIX_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the secret is not base64")
    return key


def _match(expected: list[str], given: list[str]) -> None:
    if not expected:
        raise BadSignature("no secret is configured to check this signature with")
    # Every pair is compared, so that the time taken does not tell which secret is in use.
    matches = [hmac.compare_digest(good.encode(), _bytes(one)) for good in expected for one in given]
    if not any(matches):
        raise BadSignature("the signature does not match the body")


def _check_age(timestamp: int, now: datetime, tolerance_seconds: int) -> None:
    if abs(now.timestamp() - timestamp) > tolerance_seconds:
        raise BadSignature("the signature is too old or from the future")


def _check_length(header: str) -> None:
    if len(header) > _LONGEST_HEADER:
        raise BadSignature("the signature header is too long")


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")  # a header can hold half a character; it matches nothing


def _parse(header: str) -> tuple[int, list[str]]:
    _check_length(header)
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
    if not signatures:
        raise BadSignature("the signature header has no v1 signature")
    return _seconds(times), signatures


def _seconds(times: list[str]) -> int:
    if len(times) != 1 or not (times[0].isascii() and times[0].isdigit()) or len(times[0]) > 12:
        raise BadSignature("the signature header has no single valid time")
    return int(times[0])
