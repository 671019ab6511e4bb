"""Secrets at rest: AES-256-GCM under a key ring with rotation; tokens only as hashes.

A sealed value reads `v1.<key id>.<base64url(nonce + ciphertext + tag)>`; the row's purpose is the additional
data, so a sealed value copied to another column or row kind does not open. NIST SP 800-38D: 96-bit random nonces.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


class SealBroken(Exception):
    """The sealed value was changed, belongs elsewhere, or its key is no longer in the ring."""


class KeyRing:
    """Keys that open sealed values. The first one seals; the others only open (rotation)."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) != 32 for key in keys):
            raise ValueError("an encryption key is 32 bytes")
        self._macs = [hmac.digest(key, b"clawhaven fingerprints", "sha256") for key in keys]
        self._keys = {hashlib.sha256(b"clawhaven key id" + key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self._current = next(iter(self._keys))

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Comma-separated keys, newest first, each 64 hex digits or base64 of 32 bytes."""
        return cls([decode_key(part.strip()) for part in text.split(",") if part.strip()])

    def seal(self, plain: str, purpose: str) -> str:
        """Encrypt `plain` for this purpose only."""
        nonce = os.urandom(12)
        sealed = self._keys[self._current].encrypt(nonce, plain.encode(), purpose.encode())
        return f"v1.{self._current}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def fingerprints(self, text: str, purpose: str) -> list[str]:
        """What `text` is recognised by without being kept: 64 hex digits for each key, that of the first key first."""
        said = f"{purpose}\0{text}".encode()
        return [hmac.digest(key, said, "sha256").hex() for key in self._macs]

    def open(self, sealed: str, purpose: str) -> str:
        """Decrypt; raises SealBroken when it is not ours, not for this purpose, or damaged."""
        try:
            version, key_id, body = sealed.split(".", 2)
            raw = base64.urlsafe_b64decode(body)
            if version != "v1":
                raise SealBroken("unknown version of a sealed value")
            return self._keys[key_id].decrypt(raw[:12], raw[12:], purpose.encode()).decode()
        except KeyError:
            raise SealBroken("the key that sealed this value is not in ENCRYPTION_KEY") from None
        except (ValueError, InvalidTag):
            raise SealBroken("a sealed value is damaged or belongs elsewhere") from None


def decode_key(text: str) -> bytes:
    """32 bytes from hex or base64; raises ValueError with a sentence for the operator."""
    try:
        key = bytes.fromhex(text) if len(text) == 64 else base64.b64decode(text, validate=True)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise ValueError("ENCRYPTION_KEY must be 32 bytes as 64 hex digits or base64 (openssl rand -hex 32)")
    return key


def hash_token(token: str) -> str:
    """SHA-256 of a bearer secret. Enough for 256-bit random tokens; never for passwords."""
    return hashlib.sha256(token.encode()).hexdigest()


def same(a: str, b: str) -> bool:
    """Constant-time comparison."""
    return hmac.compare_digest(a.encode(), b.encode())
