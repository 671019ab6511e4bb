"""A living instance's archive: it is held still only while its files are read into a file of ours, never longer.

Whoever takes the archive may be slow, or hang for ever (a network share); by then the instance goes on again.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import IO

from clawhaven.core.disk import LOOK_EVERY_BYTES, Room
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Packing
from clawhaven.providers.runtimes import archive
from clawhaven.providers.runtimes.files import explain

MOST_HELD_SECONDS = 120.0
"""After that it goes on, whatever happens, and there is no archive."""

PIECE_BYTES = 256 * 1024


def pack(
    hold: AbstractContextManager[None],
    root: Path,
    instead: Mapping[str, str],
    most_bytes: int,
    kept_free: int | None = None,
) -> Packing:
    """As `archive.pack`; inside `hold` the files are read, and it ends before the first piece that is not empty.

    The empty pieces before it let the caller stop early. The file has no name, so that a kill removes it too, and is
    for us alone. Raises ProviderError: `held_too_long`, `disk_full`, and what `archive.pack` raises.
    """
    with _nameless(root) as file:
        with _Held(hold) as held:
            room, since = Room(file.fileno(), kept_free), LOOK_EVERY_BYTES
            for piece in archive.read(root, instead, most_bytes):
                held.check(root)
                _write(file, piece, root, room)
                since += len(piece)
                if since >= LOOK_EVERY_BYTES:
                    since = 0
                    yield b""
            held.check(root)
        file.seek(0)
        yield from archive.squeeze(_pieces(file))


class _Held:
    """Inside `hold` until its own end or MOST_HELD_SECONDS, also while a disk does not answer."""

    def __init__(self, hold: AbstractContextManager[None]) -> None:
        self._hold = hold
        self._stack = ExitStack()
        self._one_at_a_time = threading.Lock()
        self._is_over = threading.Event()
        self._timer = threading.Timer(MOST_HELD_SECONDS, self._give_up)
        self._timer.daemon = True

    def __enter__(self) -> _Held:
        self._stack.enter_context(self._hold)
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._one_at_a_time:
            self._stack.close()

    def check(self, root: Path) -> None:
        """Raises ProviderError `held_too_long` once it goes on."""
        if self._is_over.is_set():
            message = f"{root} could not be read within {MOST_HELD_SECONDS:.0f} s"
            raise ProviderError(message, permanent=True, code="held_too_long")

    def _give_up(self) -> None:
        self._is_over.set()
        with self._one_at_a_time:
            self._stack.close()


def _nameless(root: Path) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=root)
    except FileNotFoundError as error:
        raise ProviderError(f"{root}: there is nothing to pack", permanent=True, code="absent") from error
    except OSError as error:
        raise explain(error, root) from error


def _write(file: IO[bytes], piece: bytes, root: Path, room: Room) -> None:
    try:
        room.take(len(piece))
        file.write(piece)
    except OSError as error:
        raise explain(error, root) from error


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while piece := file.read(PIECE_BYTES):
        yield piece
