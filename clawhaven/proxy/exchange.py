"""One admitted call: forward it, let the answer through, settle, and only then release the answer's end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from clawhaven.core.logs import get_logger
from clawhaven.metering import OpenCall, most_input, most_output
from clawhaven.ports.upstream import Dialect, Usage, UsageReader
from clawhaven.proxy import answers
from clawhaven.proxy.answering import Answer, AnswerCut
from clawhaven.proxy.answers import Reply
from clawhaven.proxy.callers import Receive, Send
from clawhaven.proxy.client import BROKEN, SILENT
from clawhaven.proxy.counter import CountingFailed
from clawhaven.proxy.desk import Desk
from clawhaven.proxy.request import Facts
from clawhaven.proxy.streams import EndHolder, chunk_filter

CALL_HEADER = b"x-clawhaven-call"
MAX_ANSWER_BYTES = 32 * 1024 * 1024
MAX_EMBEDDINGS_BYTES = 192 * 1024 * 1024
"""An answer of 2,048 embeddings of 3,072 numbers each has 34 MB packed, and some 140 MB as decimals."""

KEPT_EMBEDDINGS_BYTES = 4 * 1024 * 1024
"""Longer ones are passed on as they come, all but the newest piece: they are of no use without their end."""

HIDDEN_TOKENS_PER_SECOND = 50
"""Estimated for a stream that was cut before its first visible word: vendors bill thinking that they do not show. It is
about what large models write in a second."""

GONE_CLIENT_SECONDS = 60.0
"""How long the vendor is still read after the client has gone, to learn what it reports; then it is estimated."""

AFTER_END_SECONDS = 2.0
"""How long to wait for the vendor to close a stream that has said its last event (so the connection can be reused)."""

PASSED_BACK = frozenset({"content-type", "content-encoding", "request-id", "x-request-id"})
_PRINTABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
log = get_logger(__name__)


class BrokenOff(Exception):
    """A whole answer broke off after its beginning had been passed on: the server must cut the connection."""


@dataclass(slots=True)
class Exchange:
    """State of one call while its answer passes through."""

    desk: Desk
    call: OpenCall
    dialect: Dialect
    facts: Facts
    body_bytes: int
    send: Send
    receive: Receive
    is_gone: bool = False
    """True once the client is known to have left."""

    has_started: bool = False
    _gone_at: float | None = None
    _begun_at: float = 0.0

    async def relay(self, answer: Answer, reader: UsageReader) -> None:
        """Let a 2xx answer through to the client and settle it. The call is closed when this returns or raises."""
        self._begun_at = time.monotonic()
        try:
            if answer.is_stream:
                await self._relay_stream(answer, reader)
            else:
                await self._relay_whole(answer, reader)
        except asyncio.CancelledError:
            # The server is stopping: what was used so far is settled, then the task ends as it was told to. Of a whole
            # answer nobody has anything before its end, and whoever waits for it will ask again.
            usage = self._partial(reader) if answer.is_stream or self.is_gone or self.has_started else None
            await self.desk.settle(self.call.id, usage, 499, "server stopped")
            raise

    async def refuse(self, reply: Reply, *, status: int, error: str) -> None:
        """Close the call without charge and answer with `reply`."""
        await self.desk.settle(self.call.id, None, status, error)
        await self.reply(reply)

    async def reply(self, reply: Reply) -> None:
        """Send a complete answer of ours, or a vendor's refusal."""
        self.has_started = True
        headers = {"content-type": reply.content_type, **reply.headers, "content-length": str(len(reply.body))}
        passed = [
            (name.encode(), value.encode("latin-1")) for name, value in headers.items() if _PRINTABLE.fullmatch(value)
        ]
        passed += [(CALL_HEADER, self.call.id.encode()), (b"cache-control", b"no-store")]
        await self._send({"type": "http.response.start", "status": reply.status, "headers": passed})
        await self._body(reply.body, is_end=True)

    async def _relay_stream(self, answer: Answer, reader: UsageReader) -> None:
        holder, dropper = EndHolder(), chunk_filter(self.dialect, self.facts.call.reports_stream_usage)
        await self._start(answer.status, answer.headers)
        cut: AnswerCut | None = None
        try:
            while chunk := await self._read(answer, holder):
                reader.feed(chunk)
                allowed = holder.feed(dropper.feed(chunk))
                if allowed:
                    await self._body(allowed)
                self._check_patience()
            holder.feed(dropper.rest())
            if not holder.is_whole:
                cut = AnswerCut(BROKEN)
        except AnswerCut as broken:
            cut = None if holder.is_whole else broken
        if cut is None:
            await self.desk.settle(self.call.id, self._complete(reader), answer.status)
            await self._body(holder.rest(), is_end=True)
            return
        is_hidden = self.is_gone or cut.message == SILENT
        usage = self._partial(reader, time.monotonic() - self._begun_at if is_hidden else 0.0)
        await self.desk.settle(self.call.id, usage, answer.status, cut.message)
        tail = b"" if holder.has_error else b"\n\n" + answers.error_event(self.dialect, cut.status, cut.message)
        await self._body(tail, is_end=True)

    async def _relay_whole(self, answer: Answer, reader: UsageReader) -> None:
        body: list[bytes] = []
        size, kept, most = 0, MAX_ANSWER_BYTES, MAX_ANSWER_BYTES
        if self.dialect is Dialect.OPENAI_EMBEDDINGS:
            kept, most = KEPT_EMBEDDINGS_BYTES, MAX_EMBEDDINGS_BYTES
        try:
            while chunk := await answer.read():
                body.append(chunk)
                reader.feed(chunk)
                size += len(chunk)
                if size > most:
                    raise AnswerCut("The model's answer is too long.")
                if size > kept:
                    body = await self._pass_on(answer, body)
                self._check_patience()
        except AnswerCut as cut:
            # What nobody has anything of is free, unless it was the client who did not wait for it.
            await self._look_for_client()
            usage = self._partial(reader) if self.is_gone or self.has_started else None
            await self.desk.settle(self.call.id, usage, answer.status, cut.message)
            if self.has_started:
                raise BrokenOff(cut.message) from cut
            await self.reply(answers.error(self.dialect, cut.status, cut.message))
            return
        await self._settle_whole(self._complete(reader), answer.status)
        if not self.has_started:
            await self._start(answer.status, answer.headers, size)
        await self._body(b"".join(body), is_end=True)

    async def _pass_on(self, answer: Answer, body: list[bytes]) -> list[bytes]:
        """Send what there is of a whole answer but its newest piece, which is returned."""
        if not self.has_started:
            await self._start(answer.status, answer.headers)
        for piece in body[:-1]:
            await self._body(piece)
        return body[-1:]

    async def _settle_whole(self, usage: Usage, status: int) -> None:
        """Settle; when that fails, ask once more: it may be done and only not known to be, and a client that is refused
        now asks for the same again, for its money."""
        try:
            await self.desk.settle(self.call.id, usage, status)
        except CountingFailed:
            await self.desk.settle(self.call.id, usage, status)

    async def _read(self, answer: Answer, holder: EndHolder) -> bytes:
        """The next piece; after the stream's last event only what arrives in a moment."""
        if not holder.has_end:
            return await answer.read()
        try:
            async with asyncio.timeout(AFTER_END_SECONDS):
                return await answer.read()
        except TimeoutError:
            return b""

    async def _look_for_client(self) -> None:
        """Nobody watches the client of an answer that is not streamed until it matters."""
        if self.facts.call.is_stream:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0):
                self.is_gone = (await self.receive())["type"] == "http.disconnect"

    def _check_patience(self) -> None:
        """Once the client has gone, the vendor is read for a limited time only."""
        if self.is_gone:
            self._gone_at = self._gone_at or time.monotonic()
            if time.monotonic() - self._gone_at > GONE_CLIENT_SECONDS:
                raise AnswerCut("The client went away.", 499)

    def _complete(self, reader: UsageReader) -> Usage:
        """What a finished answer used: the vendor's report, or an estimate where it reported nothing."""
        reported = reader.usage()
        if reported is not None:
            return reported
        log.warning("usage_missing", call=self.call.id, upstream=self.call.price.upstream, dialect=self.dialect.value)
        return self._estimate(reader.output_estimate())

    def _partial(self, reader: UsageReader, hidden_seconds: float = 0.0) -> Usage:
        """What a broken answer used: the report so far, with the output that was seen after it; where none was seen,
        what may have been thought in `hidden_seconds`."""
        reported, output = reader.usage(), reader.output_estimate()
        is_told = reported is not None and reported.output_tokens > 0 and not reported.is_estimated
        if not (output or is_told):
            hidden = int(hidden_seconds * HIDDEN_TOKENS_PER_SECOND)
            output = min(hidden, most_output(self.facts.ask, self.call.price))
        if reported is None:
            return self._estimate(output)
        return replace(reported, output_tokens=max(reported.output_tokens, output), is_estimated=True)

    def _estimate(self, output: int) -> Usage:
        prompt = min(-(-self.body_bytes // 4), most_input(self.facts.ask, self.call.price))
        return Usage(input_tokens=prompt, output_tokens=output, is_estimated=True)

    async def _start(self, status: int, headers: Mapping[str, str], size: int | None = None) -> None:
        self.has_started = True
        passed = [
            (name.encode(), value.encode("latin-1"))
            for name, value in headers.items()
            if name in PASSED_BACK and _PRINTABLE.fullmatch(value)
        ]
        passed += [(CALL_HEADER, self.call.id.encode()), (b"cache-control", b"no-store")]
        if size is not None:
            passed.append((b"content-length", b"%d" % size))
        await self._send({"type": "http.response.start", "status": status, "headers": passed})

    async def _body(self, chunk: bytes, *, is_end: bool = False) -> None:
        await self._send({"type": "http.response.body", "body": chunk, "more_body": not is_end})

    async def _send(self, message: MutableMapping[str, Any]) -> None:
        if self.is_gone:
            return
        try:
            await self.send(message)
        except OSError:
            self.is_gone = True
