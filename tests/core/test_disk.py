"""What has to stay free of a disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from clawhaven.core.disk import LOOK_EVERY_BYTES, Room


@pytest.mark.parametrize(
    ("size_gb", "free_mb", "is_enough"),
    [(10, 1100, True), (10, 900, False), (100, 5100, True), (100, 4900, False)],
)
def test_a_gigabyte_or_a_twentieth_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_gb: int, free_mb: int, is_enough: bool
) -> None:
    free = free_mb * 1000
    seen = os.statvfs_result((1000, 1000, size_gb * 10**6, free * 2, free, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda _handle: seen)
    room = Room(0)
    if is_enough:
        room.take(1)
        return
    with pytest.raises(OSError, match=f"{free_mb} MB are free") as refused:
        room.take(1)
    assert refused.value.errno == errno.ENOSPC


def test_looked_at_before_the_first_byte_and_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    plenty = os.statvfs_result((1, 1, 10**12, 10**12, 10**12, 0, 0, 0, 0, 255))
    monkeypatch.setattr(os, "fstatvfs", lambda handle: looks.append(handle) or plenty)
    room = Room(7, 0)
    for _ in range(9):
        room.take(LOOK_EVERY_BYTES // 4)
    assert looks == [7, 7, 7]
