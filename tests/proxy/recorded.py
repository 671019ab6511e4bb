"""Answers of every kind in the vendors' own wire format, with what each of them reports to have used."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from clawhaven.metering import UsageRow
from tests.proxy.wire import CLAUDE, GPT, HELLO, sse

EVENTS, JSON = "text/event-stream; charset=utf-8", "application/json"


@dataclass(frozen=True)
class Recorded:
    """A call and its answer. `figures`: input, output, cache read, written for 5 minutes, for an hour, reasoning."""

    name: str
    path: str
    body: dict[str, Any]
    content: bytes
    figures: tuple[int, int, int, int, int, int]
    shown: bytes = b""
    """What the client gets to see, where that is less than what the vendor sends."""

    kind: str = field(default=EVENTS)

    @property
    def is_stream(self) -> bool:
        return self.kind == EVENTS

    @property
    def visible(self) -> bytes:
        return self.shown or self.content

    @property
    def is_claude(self) -> bool:
        return self.path == "/v1/messages"


def figures(row: UsageRow) -> tuple[int, int, int, int, int, int]:
    """The same six of a row."""
    written = (row.cache_write_5m_tokens, row.cache_write_1h_tokens)
    return (row.input_tokens, row.output_tokens, row.cache_read_tokens, *written, row.reasoning_tokens)


# ---- Anthropic ----------------------------------------------------------------------------------------------------

THOUGHT, SAID, ASKED = "Let me see … ", 'Grüße! \\ "data: [DONE]" 🦞 \n', {"city": "Zürich", "days": [1, 2]}
CACHED = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 1000,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
    "service_tier": "standard",
}
CLAUDE_USED = {**CACHED, "output_tokens": 77, "output_tokens_details": {"thinking_tokens": 20}}
CLAUDE_FIGURES = (10, 77, 1000, 100, 200, 20)


def message(**fields: Any) -> dict[str, Any]:
    """A message of Anthropic's."""
    blocks = [
        {"type": "thinking", "thinking": THOUGHT, "signature": "EqQB"},
        {"type": "text", "text": SAID, "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": ASKED},
    ]
    ended = {"content": blocks, "stop_reason": "tool_use", "stop_sequence": None, "usage": CLAUDE_USED}
    return {"id": "msg_01", "type": "message", "role": "assistant", "model": CLAUDE, **ended, **fields}


def _claude_events() -> list[bytes]:
    def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[bytes]:
        opened = sse("content_block_start", index=index, content_block=start)
        moved = [sse("content_block_delta", index=index, delta=delta) for delta in deltas]
        return [opened, *moved, sse("content_block_stop", index=index)]

    begun = message(content=[], stop_reason=None, usage={**CACHED, "output_tokens": 1})
    thought = [{"type": "thinking_delta", "thinking": THOUGHT}, {"type": "signature_delta", "signature": "EqQB"}]
    said = [{"type": "text_delta", "text": part} for part in (SAID[:5], SAID[5:])]
    asked = [{"type": "input_json_delta", "partial_json": part} for part in _halves(json.dumps(ASKED))]
    tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    return [
        sse("message_start", message=begun),
        sse("ping"),
        *block(0, {"type": "thinking", "thinking": "", "signature": ""}, *thought),
        *block(1, {"type": "text", "text": ""}, *said),
        *block(2, tool, *asked),
        sse("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage=CLAUDE_USED),
        sse("message_stop"),
    ]


def _halves(text: str) -> tuple[str, str]:
    return text[: len(text) // 2], text[len(text) // 2 :]


# ---- OpenAI -------------------------------------------------------------------------------------------------------

CHAT_USED = {
    "prompt_tokens": 100,
    "completion_tokens": 42,
    "total_tokens": 142,
    "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 7, "audio_tokens": 0},
}
CHAT_FIGURES = (10, 42, 60, 30, 0, 7)
RESPONSE_USED = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
    "output_tokens": 42,
    "output_tokens_details": {"reasoning_tokens": 7},
    "total_tokens": 142,
}


def data(value: Any) -> bytes:
    """An event of OpenAI's chat stream."""
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def completion(kind: str, choices: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """A chat completion, or a chunk of one."""
    head = {"id": "chatcmpl-1", "object": kind, "created": 1_790_000_000, "model": f"{GPT}-2026-10-01"}
    return {**head, "service_tier": "default", "system_fingerprint": "fp_1", "choices": choices, **fields}


def _chat_chunks(used: dict[str, Any] | None) -> list[bytes]:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    more = {"index": 0, "function": {"arguments": json.dumps(ASKED)}}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": SAID[:5]},
        {"content": SAID[5:]},
        {"tool_calls": [call]},
        {"tool_calls": [more]},
    ]
    extra = {"usage": None} if used else {}
    chunks = [
        completion(
            "chat.completion.chunk",
            [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}],
            **extra,
        )
        for delta in deltas
    ]
    over = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}
    chunks.append(completion("chat.completion.chunk", [over], **extra))
    return [data(chunk) for chunk in chunks]


def chat(**fields: Any) -> dict[str, Any]:
    """A whole chat completion."""
    function = {"name": "weather", "arguments": json.dumps(ASKED)}
    calls = [{"id": "call_1", "type": "function", "function": function}]
    said = {"role": "assistant", "content": SAID, "refusal": None, "annotations": [], "tool_calls": calls}
    choice = {"index": 0, "message": said, "logprobs": None, "finish_reason": "tool_calls"}
    return completion("chat.completion", [choice], usage=CHAT_USED, **fields)


def response(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """A response of the Responses API."""
    text = {"type": "output_text", "text": SAID, "annotations": [], "logprobs": []}
    said = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [text]}
    thought = {"id": "rs_1", "type": "reasoning", "summary": []}
    called = {"name": "weather", "arguments": json.dumps(ASKED), "call_id": "call_1"}
    asked = {"id": "fc_1", "type": "function_call", "status": "completed", **called}
    is_over = status == "completed"
    fixed = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}, "store": False}
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1_790_000_000,
        "status": status,
        "model": f"{GPT}-2026-10-01",
        "output": [thought, said, asked] if is_over else [],
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": RESPONSE_USED if is_over else None,
        **fixed,
        **fields,
    }


def _response_events() -> list[bytes]:
    place = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    done = response()
    thought, said, asked = done["output"]
    part = said["content"][0]
    fresh = {**said, "status": "in_progress", "content": []}
    called = {"item_id": "fc_1", "output_index": 2}
    events: list[tuple[str, dict[str, Any]]] = [
        ("created", {"response": response("in_progress")}),
        ("in_progress", {"response": response("in_progress")}),
        ("output_item.added", {"output_index": 0, "item": thought}),
        ("output_item.done", {"output_index": 0, "item": thought}),
        ("output_item.added", {"output_index": 1, "item": fresh}),
        ("content_part.added", {**place, "part": {**part, "text": ""}}),
        *[("output_text.delta", {**place, "delta": piece, "logprobs": []}) for piece in (SAID[:5], SAID[5:])],
        ("output_text.done", {**place, "text": SAID, "logprobs": []}),
        ("content_part.done", {**place, "part": part}),
        ("output_item.done", {"output_index": 1, "item": said}),
        ("output_item.added", {"output_index": 2, "item": {**asked, "status": "in_progress", "arguments": ""}}),
        ("function_call_arguments.delta", {**called, "delta": asked["arguments"]}),
        ("function_call_arguments.done", {**called, "name": "weather", "arguments": asked["arguments"]}),
        ("output_item.done", {"output_index": 2, "item": asked}),
        ("completed", {"response": done}),
    ]
    return [sse(f"response.{kind}", sequence_number=number, **rest) for number, (kind, rest) in enumerate(events)]


USAGE_CHUNK = data(completion("chat.completion.chunk", [], usage=CHAT_USED))
DONE = b"data: [DONE]\n\n"
CLAUDE_EVENTS, RESPONSE_EVENTS = _claude_events(), _response_events()
CHAT_CHUNKS = _chat_chunks(CHAT_USED)
EMBEDDED = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.25, -0.5]}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 8, "total_tokens": 8},
}

_MESSAGES = {"model": CLAUDE, "max_tokens": 100, "messages": HELLO}
_CHAT = {"model": GPT, "max_completion_tokens": 100, "messages": HELLO}
_RESPONSE = {"model": GPT, "max_output_tokens": 100, "input": "hello"}
_ASKING = {"stream": True, "stream_options": {"include_usage": True}}
_EMBED = {"model": "text-embedding-3-small", "input": "hello"}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


ALL = (
    Recorded("messages", "/v1/messages", _MESSAGES, _json(message()), CLAUDE_FIGURES, kind=JSON),
    Recorded("messages stream", "/v1/messages", {**_MESSAGES, "stream": True}, b"".join(CLAUDE_EVENTS), CLAUDE_FIGURES),
    Recorded("chat", "/v1/chat/completions", _CHAT, _json(chat()), CHAT_FIGURES, kind=JSON),
    Recorded(
        "chat stream",
        "/v1/chat/completions",
        {**_CHAT, "stream": True},
        b"".join([*CHAT_CHUNKS, USAGE_CHUNK, DONE]),
        CHAT_FIGURES,
        shown=b"".join([*CHAT_CHUNKS, DONE]),
    ),
    Recorded(
        "chat stream with usage",
        "/v1/chat/completions",
        {**_CHAT, **_ASKING},
        b"".join([*CHAT_CHUNKS, USAGE_CHUNK, DONE]),
        CHAT_FIGURES,
    ),
    Recorded("responses", "/v1/responses", _RESPONSE, _json(response()), CHAT_FIGURES, kind=JSON),
    Recorded(
        "responses stream", "/v1/responses", {**_RESPONSE, "stream": True}, b"".join(RESPONSE_EVENTS), CHAT_FIGURES
    ),
    Recorded("embeddings", "/v1/embeddings", _EMBED, _json(EMBEDDED), (8, 0, 0, 0, 0, 0), kind=JSON),
)
STREAMS = tuple(one for one in ALL if one.is_stream)
WHOLES = tuple(one for one in ALL if not one.is_stream)
