"""Our own words in the vendors' shapes: errors, and sentences that look like an ordinary answer of the model.

Instances never get 401, 402 or 403 after authentication: OpenClaw locks itself for minutes on those. A person reads a
sentence with a link instead (200, billed nothing), automatic calls get 429 "usage limit reached" (no retry, no lock).
Programs of the customer's own get plain errors: see refusals.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from clawhaven.core.ids import new_id
from clawhaven.metering import Price
from clawhaven.ports.upstream import Dialect

ANTHROPIC = frozenset({Dialect.ANTHROPIC_MESSAGES, Dialect.ANTHROPIC_COUNT_TOKENS})
SPOKEN = frozenset({Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES})
"""Dialects in which a sentence can be said."""

_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_OPENAI_TYPES = {429: "rate_limit_error", 500: "server_error", 503: "server_error", 504: "server_error"}
USAGE_LIMIT = "usage limit reached"


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer of ours."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def error(
    dialect: Dialect, status: int, message: str, *, code: str | None = None, retry_after: int | None = None
) -> Reply:
    """An error in the vendor's shape. Overload is 529 at Anthropic and 503 at OpenAI."""
    headers = {} if retry_after is None else {"retry-after": str(retry_after)}
    if status == 529 and dialect not in ANTHROPIC:
        status = 503
    return Reply(status, msgspec.json.encode(_error(dialect, status, message, code)), headers=headers)


def unpaid(dialect: Dialect, message: str, code: str) -> Reply:
    """The vendors' answer to who has no money, or has reached a limit of it; `code` is OpenAI's.

    Anthropic: 402 `billing_error` (https://docs.anthropic.com/en/api/errors). OpenAI has no 402: it is 429
    `insufficient_quota` (https://platform.openai.com/docs/guides/error-codes), and the header keeps clients, which try
    a 429 again, from doing so in vain.
    """
    if dialect in ANTHROPIC:
        return error(dialect, 402, message)
    value = {"error": {"message": message, "type": "insufficient_quota", "param": None, "code": code}}
    return Reply(429, msgspec.json.encode(value), headers={"x-should-retry": "false"})


def error_event(dialect: Dialect, status: int, message: str) -> bytes:
    """An error inside a stream that has begun; clients of the vendor raise on it."""
    value = _error(dialect, 503 if status == 529 and dialect not in ANTHROPIC else status, message, None)
    if dialect in ANTHROPIC:
        return _event(value, "error")
    if dialect is Dialect.OPENAI_RESPONSES:
        return _event({"type": "error", "code": "server_error", "message": message, "param": None}, "error")
    return _event(value)


def sentence(dialect: Dialect, model: str, text: str, *, is_stream: bool, wants_usage: bool) -> Reply:
    """`text` as if the model had said it, with no usage."""
    if not is_stream:
        return Reply(200, msgspec.json.encode(_whole(dialect, model, text)))
    if dialect is Dialect.ANTHROPIC_MESSAGES:
        body = _message_stream(model, text)
    elif dialect is Dialect.OPENAI_RESPONSES:
        body = _response_stream(model, text)
    else:
        body = _chat_stream(model, text, wants_usage)
    return Reply(200, body, "text/event-stream; charset=utf-8")


def models(prices: list[Price]) -> Reply:
    """The list of models in a shape that both vendors' clients read."""
    data = [
        {
            "id": price.model,
            "object": "model",
            "created": int(price.effective_from.timestamp()),
            "owned_by": price.upstream,
            "type": "model",
            "display_name": price.model,
            "created_at": price.effective_from.isoformat(),
            "max_input_tokens": price.context_window,
            "max_tokens": price.max_output_tokens,
        }
        for price in prices
    ]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return Reply(200, msgspec.json.encode({"object": "list", "data": data, "has_more": False, **ends}))


def _error(dialect: Dialect, status: int, message: str, code: str | None) -> dict[str, Any]:
    if dialect in ANTHROPIC:
        kind = _ANTHROPIC_TYPES.get(status, "api_error")
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": None}
    kind = _OPENAI_TYPES.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def _event(value: Any, name: str | None = None) -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + msgspec.json.encode(value) + b"\n\n"


def _typed(value: dict[str, Any]) -> bytes:
    return _event(value, value["type"])


def _whole(dialect: Dialect, model: str, text: str) -> dict[str, Any]:
    if dialect is Dialect.ANTHROPIC_MESSAGES:
        return _message(model, [{"type": "text", "text": text}], "end_turn")
    if dialect is Dialect.OPENAI_RESPONSES:
        return _response(model, "completed", [_item(text)])
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**_chat("chat.completion", model, [choice]), "usage": _CHAT_USAGE}


def _message(model: str, content: list[dict[str, Any]], stop: str | None) -> dict[str, Any]:
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": {"input_tokens": 0, "output_tokens": 0},
    }


def _message_stream(model: str, text: str) -> bytes:
    delta = {"type": "text_delta", "text": text}
    ending = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": _message(model, [], None)},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": ending, "usage": {"output_tokens": 0}},
        {"type": "message_stop"},
    ]
    return b"".join(_typed(event) for event in events)


_CHAT_USAGE = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}


def _chat(kind: str, model: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
    return {"id": new_id("chatcmpl"), "object": kind, "created": 0, "model": model, "choices": choices}


def _chat_stream(model: str, text: str, wants_usage: bool) -> bytes:
    base = _chat("chat.completion.chunk", model, [])
    said = {"index": 0, "delta": {"role": "assistant", "content": text}, "logprobs": None, "finish_reason": None}
    ended = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}
    events = [{**base, "choices": [said]}, {**base, "choices": [ended]}]
    if wants_usage:
        events.append({**base, "usage": _CHAT_USAGE})
    return b"".join(_event(event) for event in events) + b"data: [DONE]\n\n"


def _item(text: str | None, status: str = "completed") -> dict[str, Any]:
    content = [] if text is None else [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]
    return {"id": "msg_0", "type": "message", "status": status, "role": "assistant", "content": content}


def _response(model: str, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    usage = {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    fixed: dict[str, Any] = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "metadata": {}}
    return {
        "id": new_id("resp"),
        "object": "response",
        "created_at": 0,
        "status": status,
        "model": model,
        "output": output,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "temperature": 1.0,
        "top_p": 1.0,
        "usage": usage if status == "completed" else None,
        **fixed,
    }


def _response_stream(model: str, text: str) -> bytes:
    place: dict[str, Any] = {"item_id": "msg_0", "output_index": 0, "content_index": 0}
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    started = _response(model, "in_progress", [])
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": started},
        {"type": "response.output_item.added", "output_index": 0, "item": _item(None, "in_progress")},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": text, "logprobs": []},
        {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": _item(text)},
        {
            "type": "response.completed",
            "response": {**_response(model, "completed", [_item(text)]), "id": started["id"]},
        },
    ]
    return b"".join(_typed({**event, "sequence_number": number}) for number, event in enumerate(events))
