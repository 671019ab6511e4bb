"""One admitted call: forward it, let the answer through, settle, and only then release the answer's end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from typing import Any

from clawhaven.core.logs import get_logger
from clawhaven.metering import OpenCall
from clawhaven.ports.upstream import Dialect, Usage, UsageReader
from clawhaven.proxy import answers
from clawhaven.proxy.answering import Answer, AnswerCut
from clawhaven.proxy.answers import Reply
from clawhaven.proxy.client import BROKEN
from clawhaven.proxy.desk import Desk
from clawhaven.proxy.request import Facts
from clawhaven.proxy.streams import EndHolder, chunk_filter

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

CALL_HEADER = b"x-clawhaven-call"
MAX_ANSWER_BYTES = 32 * 1024 * 1024
GONE_CLIENT_SECONDS = 60.0
"""How long the vendor is still read after the client has gone, to learn what it reports; then it is estimated."""

AFTER_END_SECONDS = 2.0
"""How long to wait for the vendor to close a stream that has said its last event (so the connection can be reused)."""

PASSED_BACK = frozenset({"content-type", "content-encoding", "request-id", "x-request-id"})
_PRINTABLE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
log = get_logger(__name__)


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

    async def relay(self, answer: Answer, reader: UsageReader) -> None:
        """Let a 2xx answer through to the client and settle it. The call is closed when this returns or raises."""
        try:
            if answer.is_stream:
                await self._relay_stream(answer, reader)
            else:
                await self._relay_whole(answer, reader)
        except asyncio.CancelledError:
            # The server is stopping: what was used so far is settled, then the task ends as it was told to.
            await self.desk.settle(self.call.id, self._partial(reader), 499, "server stopped")
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
        await self.desk.settle(self.call.id, self._partial(reader), answer.status, cut.message)
        tail = b"" if holder.has_error else b"\n\n" + answers.error_event(self.dialect, cut.status, cut.message)
        await self._body(tail, is_end=True)

    async def _relay_whole(self, answer: Answer, reader: UsageReader) -> None:
        body: list[bytes] = []
        size = 0
        try:
            while chunk := await answer.read():
                body.append(chunk)
                reader.feed(chunk)
                size += len(chunk)
                if size > MAX_ANSWER_BYTES:
                    raise AnswerCut("The model's answer is too long.")
                self._check_patience()
        except AnswerCut as cut:
            # Nothing was delivered: that is charged only when it was the client who did not wait for it.
            await self._look_for_client()
            usage = self._partial(reader) if self.is_gone else None
            await self.desk.settle(self.call.id, usage, answer.status, cut.message)
            await self.reply(answers.error(self.dialect, cut.status, cut.message))
            return
        await self.desk.settle(self.call.id, self._complete(reader), answer.status)
        await self._start(answer.status, answer.headers, size)
        await self._body(b"".join(body), is_end=True)

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
        return self._estimate(reader)

    def _partial(self, reader: UsageReader) -> Usage:
        """What a broken answer used: the report so far, with the output that was seen after it."""
        reported = reader.usage()
        if reported is None:
            return self._estimate(reader)
        output = max(reported.output_tokens, reader.output_estimate())
        return replace(reported, output_tokens=output, is_estimated=True)

    def _estimate(self, reader: UsageReader) -> Usage:
        prompt = min(-(-self.body_bytes // 4), self.facts.ask.input_bound, self.call.price.context_window)
        return Usage(input_tokens=prompt, output_tokens=reader.output_estimate(), is_estimated=True)

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
