"""Sealed files: what goes in comes out, whatever the pieces; what was touched does not."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.sealing import MAGIC, PIECE_BYTES, TAG_BYTES, open_pieces, seal_pieces
from clawhaven.core.secrets import KeyRing, SealBroken

OLD, NEW = b"o" * 32, b"n" * 32
KEYS = KeyRing([OLD])


def cut(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def seal(data: bytes, purpose: str = "backup:1", size: int = 10_000) -> bytes:
    return b"".join(seal_pieces(KEYS, purpose, cut(data, size)))


def unseal(sealed: bytes, purpose: str = "backup:1", keys: KeyRing = KEYS, size: int = 7_777) -> bytes:
    return b"".join(open_pieces(keys, purpose, cut(sealed, size)))


@given(
    length=st.sampled_from([0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 200_001]),
    inward=st.integers(1, 150_000),
    outward=st.integers(1, 150_000),
)
def test_what_goes_in_comes_out(length: int, inward: int, outward: int) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    sealed = seal(data[:length], size=max(inward, 500))
    assert unseal(sealed, size=max(outward, 500)) == data[:length]
    assert data[:200] not in sealed or length < 200


def test_two_seals_of_the_same_differ() -> None:
    assert seal(b"x" * 100) != seal(b"x" * 100)


def test_after_a_rotation_the_old_ones_still_open() -> None:
    sealed = seal(b"from before")
    assert unseal(sealed, keys=KeyRing([NEW, OLD])) == b"from before"
    with pytest.raises(SealBroken, match="not in ENCRYPTION_KEY"):
        unseal(sealed, keys=KeyRing([NEW]))


def test_every_change_is_seen() -> None:
    data = b"abcdefgh" * 20_000
    sealed = seal(data)
    start = sealed.index(b"\n") + 1
    whole = PIECE_BYTES + TAG_BYTES
    first, second, rest = sealed[start : start + whole], sealed[start + whole : start + 2 * whole], sealed[start:]
    head = sealed[:start]
    other = seal(data)
    spoiled = {
        "cut off at the end of a piece": sealed[: start + whole],
        "cut off within a piece": sealed[:-5],
        "nothing behind the line": head,
        "a bit in the middle": sealed[: start + 99] + bytes([sealed[start + 99] ^ 1]) + sealed[start + 100 :],
        "two pieces swapped": head + second + first + rest[2 * whole :],
        "a piece left out": head + second + rest[2 * whole :],
        "a piece twice": head + first + first + rest[whole:],
        "another file's pieces": head + other[other.index(b"\n") + 1 :],
        "more behind the end": sealed + b"more",
        "no line": b"x" * 5000,
        "empty": b"",
        "another kind of file": b"%PDF-1.7 " + sealed,
        "no key in the line": MAGIC + b" v1.x.y\n" + sealed[start:],
    }
    for what, text in spoiled.items():
        with pytest.raises(SealBroken):
            assert unseal(text) is None, what
    with pytest.raises(SealBroken):
        unseal(sealed, purpose="backup:2")


def test_memory_does_not_grow_with_the_file() -> None:
    def many() -> Iterator[bytes]:
        for _ in range(40):
            yield b"z" * 1_000_000

    tracemalloc.start()
    total = sum(len(piece) for piece in open_pieces(KEYS, "p", seal_pieces(KEYS, "p", many())))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 40_000_000
    assert peak < 5_000_000
