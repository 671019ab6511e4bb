"""Creem's webhook signature: HMAC-SHA256 over the raw body, in hex, keyed with the secret as it is shown.

It has no timestamp: an old event can be sent again, and the inbox is what keeps it from counting twice.
Source: docs.creem.io, "Webhooks".
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final

from clawhaven.ports.payments import BadSignature

HEADER: Final = "creem-signature"
_LENGTH: Final = 64


def sign(secret: str, body: bytes) -> str:
    """The header's value for these raw bytes."""
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def verify(header: str, body: bytes, secrets: Sequence[str]) -> None:
    """Return when one of `secrets` (several serve rotation) signed these bytes. Raises BadSignature otherwise."""
    if len(header) != _LENGTH or not header.isascii():
        raise BadSignature("the signature header is malformed")
    expected = [sign(secret, body).encode() for secret in secrets if secret]
    if not expected:
        raise BadSignature("no secret is configured to check this signature with")
    # Every secret is compared, so that the time taken does not tell which one is in use.
    matches = [hmac.compare_digest(good, header.encode()) for good in expected]
    if not any(matches):
        raise BadSignature("the signature does not match the body")
