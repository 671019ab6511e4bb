"""The control plane's identity: made once, private, and its signature is what a gateway checks."""

from __future__ import annotations

import base64
import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from clawhaven.providers.gateways.device import Device


def test_of_many_makers_one_wins_and_all_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "data" / "gateway-device.json"
    with ThreadPoolExecutor(8) as pool:
        ids = {device.id for device in pool.map(lambda _: Device.load(path), range(32))}
    assert len(ids) == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["gateway-device.json"]


def test_the_signature_verifies_over_the_v3_text(tmp_path: Path) -> None:
    device = Device.load(tmp_path / "key")
    proof = device.proof(("operator.admin",), 1234, "token", "nonce")
    public = base64.urlsafe_b64decode(proof["publicKey"] + "=")
    assert hashlib.sha256(public).hexdigest() == proof["id"] == device.id
    text = f"v3|{device.id}|gateway-client|backend|operator|operator.admin|1234|token|nonce|linux|"
    signature = base64.urlsafe_b64decode(proof["signature"] + "==")
    Ed25519PublicKey.from_public_bytes(public).verify(signature, text.encode())
