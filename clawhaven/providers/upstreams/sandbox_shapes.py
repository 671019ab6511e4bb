"""The sandbox model's answers in the vendors' formats, whole and streaming, and the reader for their usage."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from clawhaven.ports.upstream import Dialect, Usage, UsageReader
from clawhaven.providers.upstreams.reading import BodyReader, Count, StreamReader, decode

CREATED = 1_767_225_600
"""Unix time in every answer: 2026-01-01, so that equal questions have equal answers."""

PIECE_CHARACTERS = 24


@dataclass(frozen=True, slots=True)
class Said:
    """One answer. `is_cut`: it reached the client's token limit."""

    id: str
    model: str
    text: str
    input_tokens: int
    output_tokens: int
    is_cut: bool

    def pieces(self) -> Iterator[str]:
        """The text in the pieces in which it is streamed."""
        for start in range(0, len(self.text), PIECE_CHARACTERS):
            yield self.text[start : start + PIECE_CHARACTERS]


def whole(dialect: Dialect, said: Said) -> dict[str, Any]:
    """The answer as one JSON value."""
    if dialect is Dialect.ANTHROPIC_MESSAGES:
        return _message(said, [{"type": "text", "text": said.text}], _stop(said), said.output_tokens)
    if dialect is Dialect.OPENAI_RESPONSES:
        return _response(said, "incomplete" if said.is_cut else "completed")
    message = {"role": "assistant", "content": said.text, "refusal": None}
    return _chat(said, "chat.completion", [_choice(said, message=message)], usage=_chat_usage(said))


def stream(dialect: Dialect, said: Said, wants_usage: bool) -> Iterator[bytes]:
    """The answer as server-sent events. `wants_usage` matters to the chat dialect only."""
    if dialect is Dialect.ANTHROPIC_MESSAGES:
        return _message_events(said)
    if dialect is Dialect.OPENAI_RESPONSES:
        return _response_events(said)
    return _chat_events(said, wants_usage)


def reader(dialect: Dialect, is_stream: bool) -> UsageReader:
    """A reader of usage in the formats above."""
    return _Stream() if is_stream else _Body()


def _event(value: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + msgspec.json.encode(value) + b"\n\n"


def _stop(said: Said) -> str:
    return "max_tokens" if said.is_cut else "end_turn"


def _message(said: Said, content: list[dict[str, Any]], stop: str | None, output_tokens: int) -> dict[str, Any]:
    return {
        "id": f"msg_{said.id}",
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": said.input_tokens, "output_tokens": output_tokens},
    }


def _message_events(said: Said) -> Iterator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return _event({"type": kind, **fields}, kind)

    yield event("message_start", message=_message(said, [], None, 1))
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for piece in said.pieces():
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
    yield event("content_block_stop", index=0)
    delta = {"stop_reason": _stop(said), "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": said.output_tokens})
    yield event("message_stop")


def _chat(said: Said, kind: str, choices: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    base = {"id": f"chatcmpl-{said.id}", "object": kind, "created": CREATED, "model": said.model}
    return {**base, "choices": choices, **fields}


def _choice(said: Said | None, **fields: Any) -> dict[str, Any]:
    reason = None if said is None else ("length" if said.is_cut else "stop")
    return {"index": 0, **fields, "logprobs": None, "finish_reason": reason}


def _chat_usage(said: Said) -> dict[str, Any]:
    return {
        "prompt_tokens": said.input_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": said.input_tokens + said.output_tokens,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _chat_events(said: Said, wants_usage: bool) -> Iterator[bytes]:
    def event(choice: dict[str, Any]) -> bytes:
        extra: dict[str, Any] = {"usage": None} if wants_usage else {}
        return _event(_chat(said, "chat.completion.chunk", [choice], **extra))

    yield event(_choice(None, delta={"role": "assistant", "content": ""}))
    for piece in said.pieces():
        yield event(_choice(None, delta={"content": piece}))
    yield event(_choice(said, delta={}))
    # Like a vendor that was asked for usage: whoever did not ask does not get to see this chunk.
    yield _event(_chat(said, "chat.completion.chunk", [], usage=_chat_usage(said)))
    yield b"data: [DONE]\n\n"


def _output_item(said: Said, status: str, text: str | None) -> dict[str, Any]:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"id": f"msg_{said.id}", "type": "message", "status": status, "role": "assistant", "content": content}


def _response(said: Said, status: str) -> dict[str, Any]:
    is_over = status != "in_progress"
    usage = {
        "input_tokens": said.input_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": said.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": said.input_tokens + said.output_tokens,
    }
    return {
        "id": f"resp_{said.id}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "model": said.model,
        "output": [_output_item(said, status, said.text)] if is_over else [],
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": usage if is_over else None,
    }


def _response_events(said: Said) -> Iterator[bytes]:
    number = -1

    def event(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return _event({"type": kind, "sequence_number": number, **fields}, kind)

    status = "incomplete" if said.is_cut else "completed"
    place = {"item_id": f"msg_{said.id}", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "text": said.text, "annotations": [], "logprobs": []}
    yield event("response.created", response=_response(said, "in_progress"))
    yield event("response.in_progress", response=_response(said, "in_progress"))
    yield event("response.output_item.added", output_index=0, item=_output_item(said, "in_progress", None))
    yield event("response.content_part.added", **place, part={**part, "text": ""})
    for piece in said.pieces():
        yield event("response.output_text.delta", **place, delta=piece, logprobs=[])
    yield event("response.output_text.done", **place, text=said.text, logprobs=[])
    yield event("response.content_part.done", **place, part=part)
    yield event("response.output_item.done", output_index=0, item=_output_item(said, status, said.text))
    yield event(f"response.{status}", response=_response(said, status))


class _Figures(msgspec.Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


class _Inner(msgspec.Struct):
    usage: _Figures | None = None


class _Outer(msgspec.Struct):
    usage: _Figures | None = None
    message: _Inner | None = None
    response: _Inner | None = None


def _figures(data: bytes) -> _Figures | None:
    value = decode(data, _Outer)
    if value is None:
        return None
    inner = value.message or value.response
    return value.usage or (inner.usage if inner else None)


class _Stream(StreamReader):
    def __init__(self) -> None:
        super().__init__()
        self._input: int | None = None
        self._output = 0

    def take(self, data: bytes) -> None:
        found = _figures(data)
        if found is None:
            return
        given = found.input_tokens if found.input_tokens is not None else found.prompt_tokens
        self._input = given if given is not None else self._input
        self._output = found.output_tokens or found.completion_tokens or self._output

    def usage(self) -> Usage | None:
        return None if self._input is None else Usage(self._input, self._output)


class _Body(BodyReader):
    def read(self, body: bytes) -> Usage | None:
        found = _figures(body)
        if found is None:
            return None
        return Usage(
            found.input_tokens or found.prompt_tokens or 0, found.output_tokens or found.completion_tokens or 0
        )
