"""What an instance keeps, as a gzipped tar of an OpenClaw home, and back; shared by runtimes with files on this host.

Both the files that are read and an archive that is unpacked may have been made by somebody who wishes us ill: no link
is ever followed, every folder is opened relative to the one before it, and nothing is read into memory whole.

The tar is read by hand: the standard library reads an extended header of any announced size into memory.
"""

from __future__ import annotations

import ctypes
import os
import stat
import tarfile
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from clawhaven.core.disk import Room
from clawhaven.ports.errors import ProviderError
from clawhaven.providers.runtimes.docker_files import remove
from clawhaven.providers.runtimes.files import explain
from clawhaven.providers.runtimes.tar import Entry, Reader, refuse

HOME = ".openclaw"
CONFIG = "openclaw.json"
NOTE = "READ-ME-FIRST.txt"
"""The only thing beside HOME that an archive may hold; it is for people."""

UNPACKED = ".unpacked"
"""In a state that came whole out of an archive, until the one it replaced is gone."""

LEFT_OUT = frozenset({"cache", "tmp", "backups", "integrations", UNPACKED})
"""Below the state: what is made anew, locks, and the keys to our tool servers, which are written at every start."""

LEFT_OUT_ENDINGS = (".sqlite-shm", ".sqlite3-shm", ".db-shm")
"""Shared memory of running processes; SQLite builds it from the log beside it."""

BLOCK = 512
PIECE_BYTES = 256 * 1024
MOST_DEPTH = 100
MOST_ENTRIES = 1_000_000
ENTRY_BYTES = 4096
"""What a file, folder or link takes of the disk beside its content."""

BESIDE = 16
"""Entries of an archive that packing does not count: its top, and what stands in place of our own files."""
QUICK = 1
"""zlib's fastest level: while a running gateway is packed it is held still."""

_LIBC = ctypes.CDLL(None, use_errno=True)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def pack(root: Path, instead: Mapping[str, str], most_bytes: int) -> Iterator[bytes]:
    """The archive of `root/state`, piece by piece. Raises ProviderError: `absent`, `too_large`, `disk_full`, …"""
    return squeeze(read(root, instead, most_bytes))


def read(root: Path, instead: Mapping[str, str], most_bytes: int) -> Iterator[bytes]:
    """The same as a plain tar. Raises like `pack`."""
    try:
        yield from _tar(root / "state", instead, most_bytes)
    except FileNotFoundError as error:
        raise ProviderError(f"{root}: there is nothing to pack", permanent=True, code="absent") from error
    except OSError as error:
        raise explain(error, root) from error


def squeeze(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Gzipped."""
    packer = zlib.compressobj(QUICK, zlib.DEFLATED, 31)
    for piece in pieces:
        if squeezed := packer.compress(piece):
            yield squeezed
    yield packer.flush()


def unpack(
    root: Path, pieces: Iterable[bytes], most_bytes: int, owner: int | None = None, kept_free: int | None = None
) -> None:
    """Replace `root/state` by an archive of `pack`, keeping its `openclaw.json`; `owner`: whose the files shall be.

    `kept_free`: bytes of the disk, see `Room`. Killed on the way, the next call (or `settle`) finds it as it was
    before, or replaced. Raises ProviderError.
    """
    settle(root)
    fresh, present, old = root / "state.new", root / "state", root / "state.old"
    if not present.is_dir():
        raise ProviderError(f"{root} has no files here", permanent=True, code="absent")
    try:
        fresh.mkdir(mode=0o700)
        with _opened(fresh) as top:
            _give(top, owner)
            _extract(top, pieces, most_bytes, owner, Room(top, kept_free))
            _carry(present, top, owner)
            os.close(os.open(UNPACKED, _NEW, 0o600, dir_fd=top))
            _sync_all(top)
        present.rename(old)
        try:
            fresh.rename(present)
        except OSError:
            old.rename(present)
            raise
        # It is replaced: what fails from here on is no failure of it, and settled by the next one.
        with suppress(OSError):
            _sync(root)
            remove(old)
            (present / UNPACKED).unlink()
    except OSError as error:
        raise explain(error, root) from error
    finally:
        with suppress(OSError):
            remove(fresh)


def settle(root: Path) -> None:
    """Undo or finish what a kill within `unpack` left.

    A state beside `state.old` that did not come whole out of an archive was made by somebody in between: it is moved
    aside, kept, and what was there before `unpack` is in its place again.
    """
    fresh, present, old = root / "state.new", root / "state", root / "state.old"
    try:
        if old.is_dir() and not (present / UNPACKED).exists():
            if present.exists():
                present.rename(root / f"state.aside-{time.time_ns()}")
            old.rename(present)
            _sync(root)
        remove(old)
        remove(fresh)
        with suppress(OSError):
            (present / UNPACKED).unlink()
    except OSError as error:
        raise explain(error, root) from error


def _tar(state: Path, instead: Mapping[str, str], most_bytes: int) -> Iterator[bytes]:
    total, entries = 0, 0
    with _opened(state) as top:
        for path, text in sorted(instead.items()):
            content = text.encode()
            yield _header(path, tarfile.REGTYPE, 0o600, 0, len(content)) + content + bytes(-len(content) % BLOCK)
        waiting: list[tuple[str, ...]] = [()]
        while waiting:
            steps = waiting.pop()
            with _opened_below(top, steps) as folder:
                at = os.fstat(folder)
                yield _header("/".join((HOME, *steps)), tarfile.DIRTYPE, at.st_mode, int(at.st_mtime), 0)
                for name in sorted(os.listdir(folder)):
                    path = "/".join((HOME, *steps, name))
                    if (not steps and name in LEFT_OUT) or name.endswith(LEFT_OUT_ENDINGS) or path in instead:
                        continue
                    seen = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    entries += 1
                    total += seen.st_size if stat.S_ISREG(seen.st_mode) else 0
                    if total > most_bytes or entries > MOST_ENTRIES or len(steps) >= MOST_DEPTH:
                        message = f"{state} holds more than can be backed up (BACKUP_MAX_MB)"
                        raise ProviderError(message, permanent=True, code="too_large")
                    if stat.S_ISDIR(seen.st_mode):
                        waiting.append((*steps, name))
                    elif stat.S_ISLNK(seen.st_mode):
                        target = os.readlink(name, dir_fd=folder)
                        if stays_inside(steps, target):
                            yield _header(path, tarfile.SYMTYPE, 0o777, int(seen.st_mtime), 0, target)
                    elif stat.S_ISREG(seen.st_mode):
                        yield from _file(folder, name, path)
    yield bytes(2 * BLOCK)


def _file(folder: int, name: str, path: str) -> Iterator[bytes]:
    with os.fdopen(os.open(name, _FILE, dir_fd=folder), "rb") as file:
        seen = os.fstat(file.fileno())
        if not stat.S_ISREG(seen.st_mode):
            return
        yield _header(path, tarfile.REGTYPE, seen.st_mode, int(seen.st_mtime), seen.st_size)
        left = seen.st_size
        while left and (piece := file.read(min(left, PIECE_BYTES))):
            left -= len(piece)
            yield piece
        # It shrank while we read it; its announced length has to be kept.
        while left:
            gap = min(left, PIECE_BYTES)
            left -= gap
            yield bytes(gap)
        yield bytes(-seen.st_size % BLOCK)


def _header(path: str, kind: bytes, mode: int, mtime: int, size: int, target: str = "") -> bytes:
    entry = tarfile.TarInfo(path)
    entry.type, entry.mode, entry.mtime, entry.size, entry.linkname = kind, stat.S_IMODE(mode), mtime, size, target
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def stays_inside(steps: tuple[str, ...], target: str) -> bool:
    """True for a link, in the folder `steps` below the top, that cannot lead out: relative, and upward only at first.

    (`a/..` is not always where it seems: `a` may be a link itself.)
    """
    parts = target.split("/")
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    return bool(target) and not target.startswith("/") and ups <= len(steps) and ".." not in parts[ups:]


def _extract(top: int, pieces: Iterable[bytes], most_bytes: int, owner: int | None, room: Room) -> None:
    links: list[Entry] = []
    left, count = most_bytes, 0
    reader = Reader(pieces)
    for entry in reader.entries():
        count += 1
        is_wanted = _is_wanted(entry)
        # As it is counted when it is packed, or what was packed could not come back.
        left -= entry.size if is_wanted else 0
        if left < 0 or count > MOST_ENTRIES + BESIDE:
            raise refuse("it holds more than can be restored")
        if not is_wanted:
            continue
        inside = entry.steps[1:]
        room.take(ENTRY_BYTES)
        if entry.kind == "folder":
            with _made(top, inside, owner):
                pass
        elif entry.kind == "link":
            links.append(entry)
        else:
            _write(top, inside, entry, reader, owner, room)
    if count == 0:
        raise refuse("it is empty")
    # At the end, so that nothing is written through one of them.
    for entry in links:
        _link(top, entry, owner)


def _is_wanted(entry: Entry) -> bool:
    """False for what is not for us. Raises ProviderError for what belongs into no archive."""
    if entry.steps == (NOTE,) and entry.kind == "file":
        return False
    if entry.steps[0] != HOME or len(entry.steps) > MOST_DEPTH + 2:
        raise refuse(f"{entry.name[:200]!r} does not belong into it")
    if len(entry.steps) == 1 and entry.kind != "folder":
        raise refuse(f"{HOME} is no folder")
    if entry.kind == "link" and not stays_inside(entry.steps[1:-1], entry.target):
        raise refuse(f"{entry.name[:200]!r} leads out of it")
    return entry.steps[1:] not in ((CONFIG,), (UNPACKED,))


def _link(top: int, entry: Entry, owner: int | None) -> None:
    with _made(top, entry.steps[1:-1], owner) as folder:
        try:
            os.symlink(entry.target, entry.steps[-1], dir_fd=folder)
        except FileExistsError:
            raise refuse(f"{entry.name[:200]!r} is in it twice") from None
        if owner is not None and os.geteuid() == 0:
            os.chown(entry.steps[-1], owner, owner, dir_fd=folder, follow_symlinks=False)


def _write(top: int, inside: tuple[str, ...], entry: Entry, reader: Reader, owner: int | None, room: Room) -> None:
    with _made(top, inside[:-1], owner) as folder:
        try:
            handle = os.open(inside[-1], _NEW, 0o600, dir_fd=folder)
        except FileExistsError:
            raise refuse(f"{entry.name[:200]!r} is in it twice") from None
        with os.fdopen(handle, "wb") as file:
            for piece in reader.content():
                room.take(len(piece))
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), 0o600 | entry.mode & 0o100)
            _give(file.fileno(), owner)
            os.utime(file.fileno(), (entry.mtime, entry.mtime))


def _carry(present: Path, top: int, owner: int | None) -> None:
    """The configuration as it is now: what is restored is what the assistant knows, not how it is set up."""
    with _opened(present) as source:
        try:
            handle = os.open(CONFIG, _FILE, dir_fd=source)
        except FileNotFoundError:
            return
        with os.fdopen(handle, "rb") as file, os.fdopen(os.open(CONFIG, _NEW, 0o600, dir_fd=top), "wb") as copy:
            while piece := file.read(PIECE_BYTES):
                copy.write(piece)
            _give(copy.fileno(), owner)


def _give(descriptor: int, owner: int | None) -> None:
    if owner is not None and (os.geteuid() == 0 or os.fstat(descriptor).st_uid != owner):
        os.fchown(descriptor, owner, owner)


def _sync_all(folder: int) -> None:
    """Bring to the disk what was written on this folder's file system; on others somebody else may be writing much."""
    if _LIBC.syncfs(folder) != 0:
        raise OSError(ctypes.get_errno(), "could not be brought to the disk")


def _sync(folder: Path) -> None:
    with _opened(folder) as handle:
        os.fsync(handle)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    handle = os.open(path, _FOLDER)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _opened_below(top: int, steps: Sequence[str]) -> Iterator[int]:
    handle = os.dup(top)
    try:
        for step in steps:
            below = os.open(step, _FOLDER, dir_fd=handle)
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


@contextmanager
def _made(top: int, steps: Sequence[str], owner: int | None) -> Iterator[int]:
    """The folder so deep below `top`; what is missing is made."""
    for depth in range(len(steps)):
        with _opened_below(top, steps[:depth]) as above:
            try:
                os.mkdir(steps[depth], 0o700, dir_fd=above)
            except FileExistsError:
                continue
        with _opened_below(top, steps[: depth + 1]) as fresh:
            _give(fresh, owner)
    with _opened_below(top, steps) as handle:
        yield handle
