"""Room on disks: what is written in bulk leaves some of it free, for the books may lie on the same disk."""

from __future__ import annotations

import errno
import os

LOOK_EVERY_BYTES = 16 * 1024**2
LEAST_FREE_BYTES = 1_000_000_000
LEAST_FREE_SHARE = 0.05


class Room:
    """The file system of an open file or folder, looked at before the first byte and every LOOK_EVERY_BYTES.

    `kept_free`: bytes that stay free; None: LEAST_FREE_BYTES, or LEAST_FREE_SHARE of the disk where that is more.
    """

    def __init__(self, handle: int, kept_free: int | None = None) -> None:
        self._handle, self._kept_free = handle, kept_free
        self._since = LOOK_EVERY_BYTES

    def take(self, size: int) -> None:
        """So many bytes are about to be written. Raises OSError ENOSPC when too little would stay free."""
        self._since += size
        if self._since < LOOK_EVERY_BYTES:
            return
        self._since = 0
        seen = os.fstatvfs(self._handle)
        free, kept = seen.f_bavail * seen.f_frsize, self._kept_free
        if kept is None:
            kept = max(LEAST_FREE_BYTES, int(seen.f_blocks * seen.f_frsize * LEAST_FREE_SHARE))
        if free - size < kept:
            raise OSError(errno.ENOSPC, f"{free // 10**6} MB are free, and {kept // 10**6} MB have to stay free")
