"""Reading a gzipped tar that may be hostile: an entry at a time, nothing larger than a header in memory.

POSIX.1-2001 (pax) with the `path`, `linkpath` and `size` records; of GNU's own extensions only long names.
"""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from clawhaven.ports.errors import ProviderError

BLOCK = 512
PIECE_BYTES = 256 * 1024
LONGEST_HEADER = 64 * 1024
"""An extended header: names and links, at most 4 KiB each on any file system."""

KINDS: dict[bytes, Literal["file", "folder", "link"]] = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
}


def refuse(why: str) -> ProviderError:
    """The error for an archive that is not taken."""
    return ProviderError(f"The archive is refused: {why}.", permanent=True, code="bad_archive")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in an archive. `steps` is its name, split and checked: no absolute one, no `..`, nothing empty."""

    name: str
    steps: tuple[str, ...]
    kind: Literal["file", "folder", "link"]
    size: int
    mode: int
    mtime: int
    target: str


class Reader:
    """An archive, read forward. Raises ProviderError `bad_archive`, and what the pieces raise."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._inner = _Gunzip(pieces)
        self._left = 0
        self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """Every entry; what was not read of one is passed over when the next is asked for."""
        more: dict[str, str] = {}
        while True:
            for _ in self.content():
                pass
            header = self._inner.take(BLOCK)
            if not any(header):
                self._inner.drain()
                return
            info = _parse(header)
            if info.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
                if info.size > LONGEST_HEADER:
                    raise refuse("a header is too long")
                said = self._inner.take(info.size)
                self._inner.take(-info.size % BLOCK)
                if info.type == tarfile.XHDTYPE:
                    more |= _records(said)
                elif info.type != tarfile.XGLTYPE:
                    key = "path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"
                    more[key] = said.rstrip(b"\0").decode("utf-8", "surrogateescape")
                continue
            yield self._entry(info, more)
            more = {}

    def content(self) -> Iterator[bytes]:
        """What is left of the current entry's content, in pieces."""
        while self._left:
            piece = self._inner.take(min(self._left, PIECE_BYTES))
            self._left -= len(piece)
            yield piece
        self._inner.take(self._padding)
        self._padding = 0

    def _entry(self, info: tarfile.TarInfo, more: dict[str, str]) -> Entry:
        name = more.get("path", info.name)
        kind = KINDS.get(info.type)
        if kind is None:
            raise refuse(f"{name[:200]!r} is neither a file nor a folder nor a link")
        size = info.size
        if "size" in more:
            if not more["size"].isascii() or not more["size"].isdigit():
                raise refuse("a size is no number")
            size = int(more["size"][:20])
        steps = tuple(name.rstrip("/").split("/"))
        if any(step in ("", ".", "..") or "\0" in step or len(step) > 255 for step in steps):
            raise refuse(f"{name[:200]!r} is no plain path inside it")
        if size < 0 or (kind != "file" and size):
            raise refuse("a size is wrong")
        self._left, self._padding = size, -size % BLOCK
        mtime = min(max(int(info.mtime), 0), 2**40)
        target = more.get("linkpath", info.linkname)
        return Entry(name, steps, kind, size, info.mode, mtime, target)


class _Gunzip:
    """Unpacked bytes on demand; of packed and unpacked ones no more than a few pieces at a time."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._inflate = zlib.decompressobj(31)
        self._ready = bytearray()

    def take(self, size: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._ready) < size:
            if not self._fill():
                raise refuse("it ends too early")
        taken = bytes(self._ready[:size])
        del self._ready[:size]
        return taken

    def drain(self) -> None:
        """Read to the end, so that a seal around it is checked whole."""
        while self._fill():
            self._ready.clear()

    def _fill(self) -> bool:
        if self._inflate.eof:
            if next((piece for piece in self._pieces if piece), None) is not None:
                raise refuse("something follows its end")
            return False
        packed = self._inflate.unconsumed_tail or next((piece for piece in self._pieces if piece), b"")
        if not packed:
            raise refuse("it ends too early")
        try:
            self._ready += self._inflate.decompress(packed, PIECE_BYTES)
        except zlib.error as error:
            raise refuse(f"it cannot be unpacked ({error})") from error
        if self._inflate.eof and self._inflate.unused_data:
            raise refuse("something follows its end")
        return True


def _parse(header: bytes) -> tarfile.TarInfo:
    try:
        return tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        raise refuse(f"a header is damaged ({error})") from error


def _records(said: bytes) -> dict[str, str]:
    """The records of an extended header: `<length> <key>=<value>\\n`, the length counting itself."""
    found: dict[str, str] = {}
    while said:
        number, space, _ = said.partition(b" ")
        length = int(number) if space and number.isdigit() and len(number) < 8 else 0
        record = said[len(number) + 1 : length]
        key, equals, value = record.partition(b"=")
        if length <= len(number) + 1 or length > len(said) or not equals or not value.endswith(b"\n"):
            raise refuse("an extended header is damaged")
        found[key.decode("utf-8", "replace")] = value[:-1].decode("utf-8", "surrogateescape")
        said = said[length:]
    return found
