"""Byte filters for streaming answers: hold the end back until it is settled, drop a chunk nobody asked for."""

from __future__ import annotations

import re

import msgspec

from clawhaven.ports.upstream import Dialect

_LAST = rb"(?:message_stop|response\.(?:completed|incomplete|failed))"
_END = re.compile(
    rb"(?<=\n)(?:event: ?" + _LAST + rb'|data: ?(?:\[DONE\]|\{"type": ?"' + _LAST + rb'"))|"type": ?"' + _LAST + rb'"'
)
"""The beginning of the event that ends an answer. Inside of JSON text neither a newline nor a quote stands bare."""

_END_WORDS = (b"message_stop", b"[DONE]", b"response.")
_ERROR = re.compile(rb'\nevent: ?error|\ndata: ?\{"(?:error"|type": ?"error")')
_NO_CHOICES = re.compile(rb'"choices": ?\[ ?\]')
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_OVERLAP = 40
_LONGEST_EVENT = 16 * 1024 * 1024
_LONGEST_KEPT = 1024 * 1024
"""An event longer than this passes before it is whole."""


class EndHolder:
    """Lets whole events through, up to the one that ends the answer; that and what follows waits for `rest`.

    Half an event is of no use to a client, and would spoil the error event after it when the answer breaks off.
    """

    def __init__(self) -> None:
        self._seen = b"\n"  # a line begins after a newline, never at the place where an older piece was cut off
        self._part: list[bytes] = []
        self._part_size = 0
        self._before = b""
        self._held: list[bytes] = []
        self.has_end = False
        self.has_error = False

    def feed(self, chunk: bytes) -> bytes:
        """The part of this chunk that may go out now."""
        if self.has_end:
            self._held.append(chunk)
            return b""
        known = len(self._seen)
        window = self._seen + chunk
        # Looking for the words alone is twenty times cheaper, and hardly any piece has one of them.
        end = _END.search(window) if any(word in window for word in _END_WORDS) else None
        if end is None:
            self._seen = window[-_OVERLAP:]
            return self._whole(chunk)
        self.has_end = True
        cut = max(0, end.start() - known)
        out = self._whole(chunk[:cut])
        self._held = [*self._part, chunk[cut:]]
        self._part = []
        return out

    def _whole(self, chunk: bytes) -> bytes:
        """The events that are whole with this chunk; the beginning of another one is kept."""
        if self._part or not chunk.endswith(b"\n\n"):
            before, cut = self._before if self._part else b"", 0
            self._before = (before + chunk)[-3:]
            for border in _EVENT_END.finditer(before + chunk):
                cut = border.end() - len(before)
            if cut <= 0:
                self._part.append(chunk)
                self._part_size += len(chunk)
                return self._give_up() if self._part_size > _LONGEST_KEPT else b""
            rest = chunk[cut:]
            self._before = rest[-3:]
            chunk = b"".join([*self._part, chunk[:cut]])
            self._part, self._part_size = ([rest] if rest else []), len(rest)
        if b"error" in chunk:
            self.has_error = self.has_error or _ERROR.search(b"\n" + chunk) is not None
        return chunk

    def _give_up(self) -> bytes:
        out = b"".join(self._part)
        self._part, self._part_size, self._before = [out[-3:]], 3, out[-3:]
        return out[:-3]

    @property
    def is_whole(self) -> bool:
        """True when the last event is there to its end; all that may be missing is the blank line after it."""
        held = b"".join(self._held)
        if _EVENT_END.search(held):
            return True
        payload = held.rpartition(b"data:")[2].strip()
        return payload == b"[DONE]" or _is_json(payload)

    def rest(self) -> bytes:
        """What was held back, ended by a blank line as an event is."""
        held = b"".join([*self._part, *self._held])
        self._part, self._held = [], []
        if not self.has_end:
            return held
        if held and not _EVENT_END.search(held):
            held += b"\n" if held.endswith(b"\n") else b"\n\n"
        return held


def _is_json(payload: bytes) -> bool:
    try:
        msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class UsageChunkFilter:
    """Takes the usage chunk (no choices) out of a chat stream whose client did not ask for it."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """The complete events so far, without that chunk."""
        looked_at = max(0, len(self._rest) - 3)
        self._rest += chunk
        out, start = [], 0
        for end in _EVENT_END.finditer(self._rest, looked_at):
            event = self._rest[start : end.end()]
            start = end.end()
            if not (b'"usage"' in event and _NO_CHOICES.search(event)):
                out.append(event)
        self._rest = self._rest[start:]
        if len(self._rest) > _LONGEST_EVENT:
            out.append(self.rest())
        return b"".join(out)

    def rest(self) -> bytes:
        """What came after the last complete event."""
        rest, self._rest = self._rest, b""
        return rest


class AsIs:
    """The filter that changes nothing."""

    def feed(self, chunk: bytes) -> bytes:
        """The chunk."""
        return chunk

    def rest(self) -> bytes:
        """Nothing."""
        return b""


def chunk_filter(dialect: Dialect, reports_stream_usage: bool) -> UsageChunkFilter | AsIs:
    """The filter a stream needs."""
    return UsageChunkFilter() if dialect is Dialect.OPENAI_CHAT and not reports_stream_usage else AsIs()
