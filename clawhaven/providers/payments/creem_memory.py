"""Which checkout was made for which of our keys. Creem takes no idempotency key and cannot be asked by `request_id`.

One small file per key, locked while its checkout is made: callers of one key on this machine (threads and processes)
get one checkout. Killed after Creem made it and before the file is written, the next call makes another one; the first
is an orphan whose address nobody has seen, so nobody can pay it, and Creem expires it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from clawhaven.ports.errors import ProviderError

_WAIT_SECONDS: Final = 30.0
_LOOK_AGAIN_SECONDS: Final = 0.02
_KEPT_SECONDS: Final = 30 * 86_400
"""Our checkouts live a day; nobody asks for an older key again."""


class Slot:
    """One key's file, held by nobody else until its `with` ends."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> dict[str, Any] | None:
        """What was written before; None for a new key, and for a file whose writer was killed half way."""
        size = os.fstat(self._descriptor).st_size
        with suppress(ValueError):
            found = json.loads(os.pread(self._descriptor, size, 0))
            if isinstance(found, dict):
                return found
        return None

    def write(self, found: Mapping[str, Any]) -> None:
        """Keep `found`, on the disk when this returns. Raises OSError."""
        text = json.dumps(dict(found)).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, text, 0)
        os.fsync(self._descriptor)


class Memory:
    """The files of one vendor in `folder`. `where` keeps test mode and real money apart."""

    def __init__(self, folder: Path, where: str, wait_seconds: float = _WAIT_SECONDS) -> None:
        self._folder, self._where, self._wait_seconds = folder, where, wait_seconds
        self._swept_at = 0.0

    @contextmanager
    def hold(self, key: str) -> Iterator[Slot]:
        """The key's slot, alone. ProviderError (worth a retry): another caller holds it too long, or the disk fails."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._forget_old()
            name = hashlib.sha256(f"{self._where} {key}".encode()).hexdigest()
            descriptor = os.open(self._folder / f"{name}.json", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                self._lock(descriptor)
                yield Slot(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ProviderError(
                f"What Creem was asked for cannot be written down: {error.strerror}.", code="creem_memory"
            ) from None

    def _lock(self, descriptor: int) -> None:
        give_up_at = time.monotonic() + self._wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= give_up_at:
                    raise ProviderError(
                        "This payment page is being made by another process.", code="checkout_busy"
                    ) from None
                time.sleep(_LOOK_AGAIN_SECONDS)

    def _forget_old(self) -> None:
        now = time.time()
        if now - self._swept_at < 86_400:
            return
        self._swept_at = now
        for path in self._folder.glob("*.json"):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < now - _KEPT_SECONDS:
                    path.unlink()
