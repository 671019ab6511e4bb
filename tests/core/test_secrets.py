"""Sealed values: only with the right key, for the right purpose, unchanged; rotation keeps old ones open."""

from __future__ import annotations

import base64
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.secrets import KeyRing, SealBroken, decode_key, hash_token, same

OLD, NEW = os.urandom(32), os.urandom(32)


@given(st.text(max_size=300))
def test_opens_what_it_sealed_and_never_the_same_twice(plain: str) -> None:
    ring = KeyRing([NEW])
    first, second = ring.seal(plain, "a"), ring.seal(plain, "a")
    assert ring.open(first, "a") == ring.open(second, "a") == plain
    assert first != second


def test_refuses_another_purpose_another_key_and_any_change() -> None:
    ring = KeyRing([NEW])
    sealed = ring.seal("secret", "instance.gateway")
    with pytest.raises(SealBroken, match="belongs elsewhere"):
        ring.open(sealed, "instance.proxy_key")
    with pytest.raises(SealBroken, match="not in ENCRYPTION_KEY"):
        KeyRing([OLD]).open(sealed, "instance.gateway")
    version, key_id, body = sealed.split(".")
    raw = bytearray(base64.urlsafe_b64decode(body))
    for position in range(len(raw)):
        raw[position] ^= 1
        changed = f"{version}.{key_id}.{base64.urlsafe_b64encode(bytes(raw)).decode()}"
        with pytest.raises(SealBroken):
            ring.open(changed, "instance.gateway")
        raw[position] ^= 1
    for nonsense in ("", "v1", "v1.x.y", "v2." + sealed[3:], sealed[:-3]):
        with pytest.raises(SealBroken):
            ring.open(nonsense, "instance.gateway")


def test_rotation_seals_with_the_first_and_opens_with_all() -> None:
    before = KeyRing([OLD]).seal("kept", "x")
    ring = KeyRing.parse(f"{NEW.hex()},{base64.b64encode(OLD).decode()}")
    assert ring.open(before, "x") == "kept"
    assert KeyRing([NEW]).open(ring.seal("fresh", "x"), "x") == "fresh"


@pytest.mark.parametrize("text", ["", "short", "zz" * 32, "a" * 63, base64.b64encode(b"x" * 31).decode()])
def test_a_weak_key_is_refused_with_the_line_that_makes_one(text: str) -> None:
    with pytest.raises(ValueError, match="openssl rand"):
        decode_key(text)
    with pytest.raises(ValueError, match="32 bytes"):
        KeyRing([])


def test_hashes_and_comparison() -> None:
    assert hash_token("a") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    assert same("abc", "abc")
    assert not same("abc", "abd")


def test_a_fingerprint_tells_texts_and_purposes_apart_under_each_key() -> None:
    ring = KeyRing([NEW, OLD])
    first, second = ring.fingerprints("ada@example.com", "x")
    assert [first] == KeyRing([NEW]).fingerprints("ada@example.com", "x")
    assert [second] == KeyRing([OLD]).fingerprints("ada@example.com", "x")
    assert len({first, second, *ring.fingerprints("ada@example.com", "y"), *ring.fingerprints("x", "x")}) == 6
