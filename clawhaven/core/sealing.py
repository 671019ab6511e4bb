"""Sealed files of any length, in pieces: neither sealing nor opening holds more than a piece in memory.

A sealed file is a line `CLAWSEAL1 <key>\\n`, where <key> is a fresh random key sealed by the key ring for one purpose,
followed by pieces of 64 KiB, each under AES-256-GCM with its own tag. A piece's nonce is its number and whether it is
the last one, the line is the additional data: pieces cannot be reordered, swapped with another file's, or left out,
at the end neither (the STREAM construction of Hoang, Reyhanitabar, Rogaway, Vizár 2015, as age and Tink use it).

As long as a key stays in ENCRYPTION_KEY, whatever it sealed can be opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clawhaven.core.secrets import KeyRing, SealBroken

MAGIC = b"CLAWSEAL1"
PIECE_BYTES = 64 * 1024
TAG_BYTES = 16
LONGEST_LINE = 1024


def seal_pieces(keys: KeyRing, purpose: str, plain: Iterable[bytes]) -> Iterator[bytes]:
    """The sealed file, piece by piece."""
    key = os.urandom(32)
    line = MAGIC + b" " + keys.seal(key.hex(), purpose).encode() + b"\n"
    yield line
    box, number, waiting = AESGCM(key), 0, bytearray()
    for more in plain:
        waiting += more
        # One byte more than a piece must be there: whether it is the last one is part of a piece's nonce.
        while len(waiting) > PIECE_BYTES:
            yield box.encrypt(_nonce(number, is_last=False), bytes(waiting[:PIECE_BYTES]), line)
            del waiting[:PIECE_BYTES]
            number += 1
    yield box.encrypt(_nonce(number, is_last=True), bytes(waiting), line)


def open_pieces(keys: KeyRing, purpose: str, sealed: Iterable[bytes]) -> Iterator[bytes]:
    """What was sealed. Raises SealBroken where it was changed, cut off, belongs elsewhere, or its key is gone: what has
    been yielded until then is authentic, but not all."""
    waiting, box, line, number = bytearray(), None, b"", 0
    for more in sealed:
        waiting += more
        if box is None:
            end = waiting.find(b"\n", 0, LONGEST_LINE)
            if end < 0:
                if len(waiting) >= LONGEST_LINE:
                    raise SealBroken("this is not a sealed file")
                continue
            line = bytes(waiting[: end + 1])
            box = _box_of(keys, purpose, line)
            del waiting[: end + 1]
        while len(waiting) > PIECE_BYTES + TAG_BYTES:
            yield _open(box, number, bytes(waiting[: PIECE_BYTES + TAG_BYTES]), line, is_last=False)
            del waiting[: PIECE_BYTES + TAG_BYTES]
            number += 1
    if box is None:
        raise SealBroken("this is not a sealed file")
    yield _open(box, number, bytes(waiting), line, is_last=True)


def _box_of(keys: KeyRing, purpose: str, line: bytes) -> AESGCM:
    magic, _, sealed_key = line.rstrip(b"\n").partition(b" ")
    if magic != MAGIC or not sealed_key.isascii():
        raise SealBroken("this is not a sealed file")
    return AESGCM(bytes.fromhex(keys.open(sealed_key.decode(), purpose)))


def _open(box: AESGCM, number: int, piece: bytes, line: bytes, *, is_last: bool) -> bytes:
    try:
        return box.decrypt(_nonce(number, is_last=is_last), piece, line)
    except (InvalidTag, ValueError):
        raise SealBroken("a sealed file is damaged or was cut off") from None


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
