"""The control plane's own device identity towards gateways: one Ed25519 key, made once."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CLIENT_ID = "gateway-client"
CLIENT_MODE = "backend"
ROLE = "operator"
PLATFORM = "linux"


class Device:
    """Signs a gateway's challenge (OpenClaw gateway protocol 4, signature version v3)."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self._public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = hashlib.sha256(self._public).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Device:
        """The key in `path` (64 hex digits, 0600); made when absent. Of several makers at once one wins. OSError."""
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(Ed25519PrivateKey.generate().private_bytes_raw().hex())
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                os.link(fresh, path)
            fresh.unlink()
        return cls(Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip())))

    def proof(self, scopes: Sequence[str], signed_at: int, token: str, nonce: str) -> dict[str, Any]:
        """The `device` part of a connect request; `signed_at` and `nonce` come from the gateway's challenge."""
        parts = ["v3", self.id, CLIENT_ID, CLIENT_MODE, ROLE, ",".join(scopes), str(signed_at), token, nonce]
        signature = self._key.sign("|".join([*parts, PLATFORM, ""]).encode())
        return {
            "id": self.id,
            "publicKey": _base64url(self._public),
            "signature": _base64url(signature),
            "signedAt": signed_at,
            "nonce": nonce,
        }


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
