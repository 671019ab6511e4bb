"""Backups in a folder of this machine (BACKUPS_DIR), best on another disk or a network share.

A file is written beside its place under a name of its own, brought to the disk, and renamed: it is there whole or not
at all. What a kill left half-written goes with the next one of the same name. Some of the disk always stays free.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from clawhaven.core.disk import Room
from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.vault import Stored

PIECE_BYTES = 256 * 1024
DISK_FULL = (28, 122)
"""ENOSPC and EDQUOT."""

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


class Folder:
    """Files in `<top>/<folder>/<name>.sealed`, all 0600."""

    name = "folder"

    class Options(EnvSettings):
        """This vault has no settings but BACKUPS_DIR and DISK_KEPT_FREE_MB."""

    def __init__(self, options: Options, settings: Settings) -> None:
        self._top, self._kept_free = settings.vault_dir, settings.kept_free_bytes

    def put(self, folder: str, name: str, pieces: Iterable[bytes]) -> Stored:
        """Write, sync, rename. Raises ProviderError `disk_full`, `io_error`."""
        place = self._place(folder, name)
        fresh = place.with_name(f".{name}.{secrets.token_hex(4)}.part")
        digest, size = hashlib.sha256(), 0
        with _explained(place):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in place.parent.glob(f".{name}.*.part"):
                left.unlink(missing_ok=True)
        try:
            with _explained(place):
                handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "wb") as file:
                room = Room(handle, self._kept_free)
                for piece in pieces:
                    digest.update(piece)
                    size += len(piece)
                    with _explained(place):
                        room.take(len(piece))
                        file.write(piece)
                with _explained(place):
                    file.flush()
                    os.fsync(file.fileno())
            with _explained(place):
                fresh.replace(place)
                _sync(place.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                fresh.unlink()
            raise
        return Stored(size, digest.hexdigest())

    def get(self, folder: str, name: str) -> Iterator[bytes]:
        """The file's pieces; one that is removed meanwhile is read to its end all the same."""
        place = self._place(folder, name)
        try:
            file = place.open("rb")
        except FileNotFoundError as error:
            raise ProviderError(f"{place} is not there", permanent=True, code="no_file") from error
        except OSError as error:
            raise _explain(error, place) from error
        return _read(file, place)

    def remove(self, folder: str, name: str) -> None:
        """The file, and what a kill left of it."""
        place = self._place(folder, name)
        with _explained(place):
            place.unlink(missing_ok=True)
            for left in place.parent.glob(f".{name}.*.part"):
                left.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                place.parent.rmdir()

    def remove_all(self, folder: str) -> None:
        """The whole folder."""
        place = self._place(folder, "x").parent
        with _explained(place), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(place)

    def _place(self, folder: str, name: str) -> Path:
        for word in (folder, name):
            if not _NAME.fullmatch(word):
                raise ProviderError(f"not a name of ours: {word!r}", permanent=True, code="bad_id")
        return self._top / folder / f"{name}.sealed"


def _read(file: BinaryIO, place: Path) -> Iterator[bytes]:
    with file:
        while True:
            with _explained(place):
                piece = file.read(PIECE_BYTES)
            if not piece:
                return
            yield piece


@contextlib.contextmanager
def _explained(place: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _explain(error, place) from error


def _explain(error: OSError, place: Path) -> ProviderError:
    if error.errno in DISK_FULL:
        return ProviderError(f"The disk is full: {place}: {error.strerror}", code="disk_full")
    return ProviderError(f"{place}: {error.strerror}", code="io_error")


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
