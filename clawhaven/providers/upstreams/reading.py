"""Reading an answer on the side while it passes through: bounded memory, never an exception.

Shared by every vendor here: splitting server-sent events, collecting JSON bodies, estimating text.
"""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

import msgspec

from clawhaven.ports.upstream import Usage

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""A longer event is skipped: its usage is lost and will be estimated. Vendors' largest are well below."""

MAX_JSON_BYTES = 32 * 1024 * 1024
MAX_VECTORS_BYTES = 1024 * 1024
"""So much is kept of an answer of numbers. Of one that is longer, its beginning and its end are looked at."""

EDGE_BYTES = 64 * 1024
BYTES_PER_TOKEN = 4
"""The rule of thumb for estimates; the sandbox model's definition of a token."""

MOST_TOKENS = 1_000_000_000
"""More than any answer can have used: a larger figure is none, and what it stands for is estimated."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_TOKENS)]
T = TypeVar("T")


def tokens_of(size: int) -> int:
    """Tokens estimated for so many bytes of text, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def strings(*names: str) -> re.Pattern[bytes]:
    """What finds the JSON strings under these names. It never steps back, which would keep a state for every byte."""
    named = "|".join(map(re.escape, names)).encode()
    return re.compile(rb'"(?:' + named + rb')":\s*+"((?:[^"\\]++|\\.)*+)"')


def decode(data: bytes, shape: type[T]) -> T | None:
    """The JSON value, or None for anything that does not have this shape."""
    try:
        return msgspec.json.decode(data, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class EventLines:
    """Cuts a stream into the payloads of its `data:` lines, wherever the chunks break."""

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._rest = bytearray()
        self._limit = limit
        self._is_skipping = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """The payloads completed by this chunk."""
        *ends, rest = chunk.split(b"\n")
        found = []
        for end in ends:
            line = bytes(self._rest) + end
            self._rest.clear()
            if not self._is_skipping and len(line) <= self._limit and line.startswith(b"data:"):
                found.append(line[5:].strip())
            self._is_skipping = False
        if len(self._rest) + len(rest) > self._limit:
            self._is_skipping = True
            self._rest.clear()
        if not self._is_skipping:
            self._rest += rest
        return found


class StreamReader:
    """Usage of a stream of server-sent events. Subclasses say which events report usage and which carry text."""

    text = strings("text")

    def __init__(self) -> None:
        self._lines = EventLines()
        self._text_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the answer."""
        for data in self._lines.feed(chunk):
            self._text_bytes += sum(len(match) for match in self.text.findall(data))
            if b'"usage"' in data:
                self.take(data)

    def take(self, data: bytes) -> None:
        """Read the usage of one event."""
        raise NotImplementedError

    def usage(self) -> Usage | None:
        """What the vendor has reported so far, marked as estimated where a part of it is still missing."""
        raise NotImplementedError

    def output_estimate(self) -> int:
        """Tokens estimated from the text seen so far."""
        return tokens_of(self._text_bytes)


class BodyReader:
    """Usage of an answer that is one JSON value. One longer than `limit` bytes is not kept: its usage is looked for at
    its beginning and its end."""

    text = StreamReader.text

    def __init__(self, limit: int = MAX_JSON_BYTES) -> None:
        self._body, self._end = bytearray(), b""
        self._limit, self._is_too_long = limit, False

    def feed(self, chunk: bytes) -> None:
        """Look at the next bytes of the answer."""
        if not self._is_too_long and len(self._body) + len(chunk) > self._limit:
            self._is_too_long = True
            room = max(0, EDGE_BYTES - len(self._body))
            self._body += chunk[:room]
            chunk = chunk[room:]
            self._end = bytes(self._body[max(EDGE_BYTES, len(self._body) - EDGE_BYTES) :])
            del self._body[EDGE_BYTES:]
        if self._is_too_long:
            self._end = (self._end + chunk)[-EDGE_BYTES:]
        else:
            self._body += chunk

    def usage(self) -> Usage | None:
        """What the vendor reported; None until the value is complete."""
        if not self._is_too_long:
            return self.read(bytes(self._body))
        is_whole = self._end.rstrip().endswith(b"}")
        return self.read(_last_usage(self._end) or _last_usage(bytes(self._body))) if is_whole else None

    def read(self, body: bytes) -> Usage | None:
        """The usage in a complete body."""
        raise NotImplementedError

    def output_estimate(self) -> int:
        """Tokens estimated from the text seen so far."""
        return tokens_of(sum(len(match) for match in self.text.findall(bytes(self._body))))


def _last_usage(part: bytes) -> bytes:
    """The last whole usage in a part of a JSON object, as an object of its own; or nothing."""
    found = _USAGE.match(part, max(0, part.rfind(b'"usage"')))
    return b"{%b}" % found.group() if found else b""


_USAGE = re.compile(rb'"usage"\s*:\s*\{(?:[^{}]++|\{[^{}]*+\})*+\}')
