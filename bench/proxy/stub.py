"""The vendor of the benchmark: Anthropic messages and OpenAI chat, whole answers and streams, as cheap as Python can.

A process of its own: `python -m bench.proxy.stub --port 9000 --model NAME`. A request that says `"stream": true` gets
100 pieces: at once, or `pace=50` milliseconds apart where its text says so. What was served is counted by kind; `GET
/served` tells. Just enough HTTP/1.1 for clients that are sane: a body with a length or in chunks, kept connections.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import re
import signal
from collections import Counter
from typing import cast

import uvloop

PIECES = 100
SMALL_INPUT, LARGE_INPUT, WHOLE_OUTPUT = 250, 25_000, 160
"""Tokens the stub reports: input of a request below and above LARGE_BYTES, output of an answer that is not streamed."""

LARGE_BYTES = 50_000
MARK = "the end of this answer"
"""Ends the text of every answer that is not streamed: who finds it, and the usage after it, has the whole."""

TEXT = "An answer of ordinary length, as a person would get it from an assistant in a chat. " * 3 + MARK

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_PACE = re.compile(rb"pace=(\d+)")
_ID = b"ID0000000000"


class Answers:
    """Every answer of one dialect, ready but for its id."""

    def __init__(self, model: str, is_anthropic: bool) -> None:
        make_whole, make_pieces = (_message, _message_pieces) if is_anthropic else (_chat, _chat_pieces)
        self.whole = {size: _response(make_whole(model, size)) for size in (SMALL_INPUT, LARGE_INPUT)}
        self.pieces = {size: _split(make_pieces(model, size)) for size in (SMALL_INPUT, LARGE_INPUT)}
        self.streams = {size: _STREAM_HEAD + b"".join(pieces) for size, pieces in self.pieces.items()}


class Vendor:
    """What all connections share."""

    def __init__(self, model: str) -> None:
        self.anthropic, self.openai = Answers(model, True), Answers(model, False)
        self.served: Counter[tuple[int, int]] = Counter()
        self.broken = 0
        self.number = 0

    def report(self) -> bytes:
        """What was served, as JSON: answers by tokens, and streams whose reader went away."""
        served = [{"input": i, "output": o, "answers": n} for (i, o), n in sorted(self.served.items())]
        return json.dumps({"served": served, "broken": self.broken}).encode()


class Connection(asyncio.Protocol):
    """One client, one request after the other."""

    def __init__(self, vendor: Vendor, loop: asyncio.AbstractEventLoop) -> None:
        self._vendor, self._loop = vendor, loop
        self._parts: list[bytes] = []
        self._missing = 0
        self._timer: asyncio.TimerHandle | None = None
        self._stream: tuple[list[bytes], tuple[int, int]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()
        self._vendor.broken += self._stream is not None

    def data_received(self, data: bytes) -> None:
        if self._parts:
            self._parts.append(data)
            self._missing -= len(data)
            if self._missing > 0:
                return
            data = b"".join(self._parts)
            self._parts.clear()
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._wait(data, 1)
            return
        found = _LENGTH.search(data, 0, end)
        if found:
            missing = end + 4 + int(found[1]) - len(data)
        else:
            is_whole = not _CHUNKED.search(data, 0, end) or data.endswith(b"\r\n0\r\n\r\n")
            missing = 0 if is_whole else 1
        if missing > 0:
            self._wait(data, missing)
        else:
            self._answer(data)

    def _wait(self, data: bytes, missing: int) -> None:
        self._parts.append(data)
        self._missing = missing

    def _answer(self, data: bytes) -> None:
        vendor = self._vendor
        if data.startswith(b"GET"):
            self._transport.write(_response(vendor.report()))
            return
        vendor.number += 1
        name = b"ID%010d" % vendor.number
        size = LARGE_INPUT if len(data) > LARGE_BYTES else SMALL_INPUT
        answers = vendor.anthropic if data.startswith(b"POST /v1/messages") else vendor.openai
        if not _STREAM.search(data):
            vendor.served[size, WHOLE_OUTPUT] += 1
            self._transport.write(answers.whole[size].replace(_ID, name, 1))
            return
        found = _PACE.search(data)
        if not found:
            vendor.served[size, PIECES] += 1
            self._transport.write(answers.streams[size].replace(_ID, name))
            return
        self._stream = (answers.pieces[size], (size, PIECES))
        self._transport.write(_STREAM_HEAD)
        self._send_piece(name, 0, self._loop.time(), int(found[1]) / 1000)

    def _send_piece(self, name: bytes, number: int, began: float, pace: float) -> None:
        """Piece n leaves n paces after the first, however late the one before was; the end one pace after the last."""
        assert self._stream
        pieces, tokens = self._stream
        self._transport.write(pieces[number].replace(_ID, name))
        if number == PIECES:
            self._vendor.served[tokens] += 1
            self._stream = self._timer = None
            return
        following = number + 1
        self._timer = self._loop.call_at(began + following * pace, self._send_piece, name, following, began, pace)


_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _split(events: list[bytes]) -> list[bytes]:
    """PIECES pieces of text, each an HTTP chunk, the first with what comes before it; then all of the end as one."""
    start, end = len(events) - PIECES - 1, events[-1]
    body = [*events[start:-1], end]
    body[0] = b"".join(events[: start + 1])
    chunks = [b"%x\r\n%b\r\n" % (len(event), event) for event in body]
    chunks[-1] += b"0\r\n\r\n"
    return chunks


def _chat(model: str, size: int) -> bytes:
    usage = {
        "prompt_tokens": size,
        "completion_tokens": WHOLE_OUTPUT,
        "total_tokens": size + WHOLE_OUTPUT,
        "prompt_tokens_details": {"cached_tokens": 0},
    }
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    start = {"id": f"chatcmpl-{_ID.decode()}", "object": "chat.completion", "created": 1_790_000_000, "model": model}
    return json.dumps({**start, "choices": [choice], "usage": usage}, separators=(",", ":")).encode()


def _chat_pieces(model: str, size: int) -> list[bytes]:
    kind = "chat.completion.chunk"
    start = {"id": f"chatcmpl-{_ID.decode()}", "object": kind, "created": 1_790_000_000, "model": model}

    def piece(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data({**start, "choices": [choice], "usage": None})

    usage = {"prompt_tokens": size, "completion_tokens": PIECES, "total_tokens": size + PIECES}
    first = {"role": "assistant", "content": "word "}
    pieces = [piece({"content": "word "} if number else first) for number in range(PIECES)]
    end = piece({}, "stop") + _data({**start, "choices": [], "usage": usage}) + b"data: [DONE]\n\n"
    return [*pieces, end]


def _message(model: str, size: int) -> bytes:
    usage = {"input_tokens": size, "output_tokens": WHOLE_OUTPUT}
    start = {"id": f"msg_{_ID.decode()}", "type": "message", "role": "assistant", "model": model}
    content = [{"type": "text", "text": TEXT}]
    end = {"stop_reason": "end_turn", "stop_sequence": None, "usage": usage}
    return json.dumps({**start, "content": content, **end}, separators=(",", ":")).encode()


def _message_pieces(model: str, size: int) -> list[bytes]:
    begun = {"input_tokens": size, "output_tokens": 1}
    message = {"id": f"msg_{_ID.decode()}", "type": "message", "role": "assistant", "model": model, "content": []}
    full = {**message, "stop_reason": None, "stop_sequence": None, "usage": begun}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
    ending = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}}
    end: list[dict[str, object]] = [
        {"type": "content_block_stop", "index": 0},
        {**ending, "usage": {"output_tokens": PIECES}},
        {"type": "message_stop"},
    ]
    return [
        _event({"type": "message_start", "message": full}),
        _event(block),
        *[_event(delta)] * PIECES,
        b"".join(_event(one) for one in end),
    ]


def _data(value: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


def _event(value: dict[str, object]) -> bytes:
    return f"event: {value['type']}\n".encode() + _data(value)


async def _serve(port: int, model: str) -> None:
    loop, vendor = asyncio.get_running_loop(), Vendor(model)
    server = await loop.create_server(lambda: Connection(vendor, loop), "127.0.0.1", port, backlog=4096)
    stopped = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stopped.set)
    gc.freeze()
    print("ready", flush=True)
    await stopped.wait()
    server.close()


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="stub")
    given = parser.parse_args()
    uvloop.run(_serve(given.port, given.model))


if __name__ == "__main__":
    main()
