"""Every documented way to call a model with the vendors' official clients, each with an answer of the vendor."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
import pydantic

from tests.proxy import recorded
from tests.proxy.recorded import (
    CLAUDE_EVENTS,
    CLAUDE_FIGURES,
    CLAUDE_USED,
    EMBEDDED,
    Recorded,
    completion,
    message,
    response,
)
from tests.proxy.wire import CLAUDE, GPT, HELLO, sse

BY_NAME = {one.name: one for one in recorded.ALL}
IDS = {"request-id": "req_claude", "x-request-id": "req_openai"}
TOOL = {"name": "weather", "description": "Weather.", "input_schema": {"type": "object", "properties": {}}}
FUNCTION = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


class Weather(pydantic.BaseModel):
    """A structured answer."""

    city: str
    days: list[int]


@dataclass(frozen=True)
class Case:
    """One way to call. `answer`: what the vendor says; `bills`: what it is charged for; `shown`: what
    clients see, where it is less."""

    name: str
    client: type[Any]
    call: Callable[[Any], Any]
    answer: bytes
    kind: str = "application/json"
    path: str = ""
    bills: tuple[int, ...] | None = None
    shown: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def js(value: Any) -> bytes:
    return json.dumps(value).encode()


def claude(name: str, call: Callable[[Any], Any], answer: bytes | Recorded = BY_NAME["messages"], **more: Any) -> Case:
    return _case(name, anthropic.Anthropic, call, answer, "/v1/messages", more)


def gpt(name: str, call: Callable[[Any], Any], answer: bytes | Recorded, **more: Any) -> Case:
    path = answer.path if isinstance(answer, Recorded) else "/v1/chat/completions"
    return _case(name, openai.OpenAI, call, answer, path, more)


def _case(name: str, client: Any, call: Any, answer: bytes | Recorded, path: str, more: dict[str, Any]) -> Case:
    if isinstance(answer, Recorded):
        given = {"answer": answer.content, "kind": answer.kind, "bills": answer.figures, "shown": answer.shown}
    else:
        given = {"answer": answer, "bills": None}
    return Case(name, client, call, **{"path": path, **given, **more})


ASK = {"model": CLAUDE, "max_tokens": 100, "messages": HELLO}
SAY = {"model": GPT, "messages": HELLO}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
PDF = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "A page."}}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}}
EMBEDDER = "text-embedding-3-small"
SHOWN = [{"role": "user", "content": [PICTURE]}]
CHAT, RESPONSE = BY_NAME["chat"], BY_NAME["responses"]
STREAM, CHAT_STREAM, RESPONSES = BY_NAME["messages stream"], BY_NAME["chat stream"], BY_NAME["responses stream"]
STRUCTURED = message(content=[{"type": "text", "text": '{"city":"Zürich","days":[1]}'}], stop_reason="end_turn")
SPOKEN = {"role": "assistant", "content": '{"city":"Zürich","days":[1]}', "refusal": None}
PARSED = completion(
    "chat.completion",
    [{"index": 0, "message": SPOKEN, "logprobs": None, "finish_reason": "stop"}],
    usage={"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11},
)
CONVERSATION = [
    *HELLO,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}]},
]
CACHED = [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]

COMPACT = {"edits": [{"type": "compact_20260112", "trigger": {"type": "input_tokens", "value": 50_000}}]}
SUMMARY = {
    "type": "compaction",
    "input_tokens": 180_000,
    "output_tokens": 3_500,
    "cache_creation_input_tokens": 7,
    "cache_read_input_tokens": 5,
    "cache_creation": {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
}
SUMMARIZED = [{"type": "compaction", "content": "Ada asked for dinner."}, {"type": "text", "text": "Soup."}]
COMPACTED = {**CLAUDE_USED, "iterations": [SUMMARY, {"type": "message", **CLAUDE_USED}]}
ONLY_COMPACTED = {"input_tokens": 0, "output_tokens": 0, "iterations": [SUMMARY]}
COMPACTED_STREAM = Recorded(
    "messages stream with a compaction",
    "/v1/messages",
    {},
    b"".join(
        [
            *CLAUDE_EVENTS[:-2],
            sse("message_delta", delta={"stop_reason": "tool_use", "stop_sequence": None}, usage=COMPACTED),
            CLAUDE_EVENTS[-1],
        ]
    ),
    CLAUDE_FIGURES,
)


def final_message(client: Any, **more: Any) -> Any:
    with client.messages.stream(**ASK, **more) as stream:
        events = [event.model_dump() for event in stream]
        return events, stream.get_final_message(), stream.request_id


def beta_final_message(client: Any) -> Any:
    with client.beta.messages.stream(**ASK, betas=["context-1m-2026-08-07"]) as stream:
        return "".join(stream.text_stream), stream.get_final_message()


def compacted_message(client: Any) -> Any:
    with client.beta.messages.stream(**ASK, betas=["compact-2026-01-12"], context_management=COMPACT) as stream:
        return [event.model_dump() for event in stream], stream.get_final_message()


def raw(found: Any) -> Any:
    kept = ("content-type", "request-id", "x-request-id")
    return (
        found.status_code,
        {name: found.headers.get(name) for name in kept},
        found.parse(),
        found.http_response.content,
    )


def streamed(opening: Any) -> Any:
    with opening as found:
        return found.status_code, found.headers.get("content-type"), b"".join(found.iter_bytes())


def chat_final(client: Any) -> Any:
    with client.chat.completions.stream(**SAY) as stream:
        kinds = [event.type for event in stream]
        return kinds, stream.get_final_completion()


def response_final(client: Any) -> Any:
    with client.responses.stream(model=GPT, input="hello") as stream:
        kinds = [event.type for event in stream]
        return kinds, stream.get_final_response()


CASES = [
    claude("a message", lambda c: c.messages.create(**ASK)),
    claude("its id", lambda c: c.messages.create(**ASK)._request_id, headers=IDS),
    claude("tools", lambda c: c.messages.create(**ASK, tools=[TOOL], tool_choice={"type": "any"})),
    claude("results of tools", lambda c: c.messages.create(**{**ASK, "messages": CONVERSATION}, tools=[TOOL])),
    claude("thinking", lambda c: c.messages.create(**ASK, thinking={"type": "enabled", "budget_tokens": 1024})),
    claude("caching", lambda c: c.messages.create(**ASK, system=CACHED, metadata={"user_id": "u"})),
    claude("a picture", lambda c: c.messages.create(**{**ASK, "messages": [{"role": "user", "content": [IMAGE]}]})),
    claude("a document", lambda c: c.messages.create(**{**ASK, "messages": [{"role": "user", "content": [PDF]}]})),
    claude("sampling", lambda c: c.messages.create(**ASK, stop_sequences=["x"], service_tier="standard_only")),
    claude(
        "own fields",
        lambda c: c.messages.create(**ASK, extra_body={"new": {"é": [1.0, None]}}, extra_query={"a": "b"}),
        path="/v1/messages?a=b",
    ),
    claude("structure", lambda c: c.messages.parse(**ASK, output_format=Weather), js(STRUCTURED), bills=None),
    claude("a stream", lambda c: list(c.messages.create(**ASK, stream=True)), STREAM),
    claude("a stream with its end", final_message, STREAM, headers=IDS),
    claude("a stream of tools", lambda c: final_message(c, tools=[TOOL]), STREAM),
    claude("raw", lambda c: raw(c.messages.with_raw_response.create(**ASK)), headers=IDS),
    claude("a raw stream", lambda c: streamed(c.messages.with_streaming_response.create(**ASK, stream=True)), STREAM),
    claude(
        "counting",
        lambda c: c.messages.count_tokens(model=CLAUDE, messages=HELLO, tools=[TOOL], system="Be brief."),
        js({"input_tokens": 17}),
        path="/v1/messages/count_tokens",
    ),
    claude(
        "beta",
        lambda c: c.beta.messages.create(**ASK, betas=["context-1m-2026-08-07", "other-2026-01-01"]),
    ),
    claude("a beta stream", beta_final_message, STREAM),
    claude(
        "a compaction",
        lambda c: c.beta.messages.create(**ASK, betas=["compact-2026-01-12"], context_management=COMPACT),
        js(message(content=SUMMARIZED, usage=COMPACTED)),
        bills=(180_010, 3_577, 1005, 103, 204, 20),
    ),
    claude("a compaction as a stream", compacted_message, COMPACTED_STREAM, bills=(180_010, 3_577, 1005, 103, 204, 20)),
    claude(
        "a compaction on demand",
        lambda c: c.beta.messages.create(**ASK, betas=["compact-2026-09-04"], compaction={"type": "summarize"}),
        js(message(content=SUMMARIZED, stop_reason="compaction", usage=ONLY_COMPACTED)),
        bills=(180_000, 3_500, 5, 3, 4, 0),
    ),
    claude(
        "beta counting",
        lambda c: c.beta.messages.count_tokens(model=CLAUDE, messages=HELLO),
        js({"input_tokens": 17}),
        path="/v1/messages/count_tokens",
    ),
    gpt("a completion", lambda c: c.chat.completions.create(**SAY), CHAT),
    gpt("its id", lambda c: c.chat.completions.create(**SAY)._request_id, CHAT, headers=IDS),
    gpt("functions", lambda c: c.chat.completions.create(**SAY, tools=[FUNCTION], tool_choice="required"), CHAT),
    gpt("choices", lambda c: c.chat.completions.create(**SAY, n=2, logprobs=True, top_logprobs=2), CHAT),
    gpt("limits", lambda c: c.chat.completions.create(**SAY, max_completion_tokens=9, seed=1, stop=["x"]), CHAT),
    gpt("a picture", lambda c: c.chat.completions.create(model=GPT, messages=SHOWN), CHAT),
    gpt("structure", lambda c: c.chat.completions.parse(**SAY, response_format=Weather), js(PARSED)),
    gpt("a stream", lambda c: list(c.chat.completions.create(**SAY, stream=True)), CHAT_STREAM),
    gpt(
        "a stream with usage",
        lambda c: list(c.chat.completions.create(**SAY, stream=True, stream_options={"include_usage": True})),
        BY_NAME["chat stream with usage"],
    ),
    gpt(
        "a stream with options",
        lambda c: list(c.chat.completions.create(**SAY, stream=True, stream_options={"include_obfuscation": False})),
        CHAT_STREAM,
    ),
    gpt("a stream with its end", chat_final, CHAT_STREAM),
    gpt("raw", lambda c: raw(c.chat.completions.with_raw_response.create(**SAY)), CHAT, headers=IDS),
    gpt("a response", lambda c: c.responses.create(model=GPT, input="hello", instructions="Be brief."), RESPONSE),
    gpt(
        "a response to items",
        lambda c: c.responses.create(
            model=GPT,
            input=[{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
            reasoning={"effort": "low"},
            store=False,
            include=["reasoning.encrypted_content"],
        ),
        RESPONSE,
    ),
    gpt(
        "a response with functions",
        lambda c: c.responses.create(
            model=GPT, input="x", tools=[{"type": "function", "name": "weather", "parameters": {}, "strict": False}]
        ),
        RESPONSE,
    ),
    gpt(
        "a response in structure",
        lambda c: c.responses.parse(model=GPT, input="x", text_format=Weather),
        js(response(output=[])),
        path="/v1/responses",
    ),
    gpt("a response as a stream", lambda c: list(c.responses.create(model=GPT, input="hello", stream=True)), RESPONSES),
    gpt("a response's stream with its end", response_final, RESPONSES),
    gpt(
        "embeddings",
        lambda c: c.embeddings.create(model=EMBEDDER, input=["a", "b"], encoding_format="float"),
        BY_NAME["embeddings"],
    ),
    gpt(
        "packed embeddings",
        lambda c: c.embeddings.create(model=EMBEDDER, input="a", dimensions=2),
        js({**EMBEDDED, "data": [{"object": "embedding", "index": 0, "embedding": "AACAPgAAAL8="}]}),
        path="/v1/embeddings",
    ),
]

MESSAGE, MESSAGE_STREAM, COMPLETION, COMPLETION_STREAM, ANSWER, RESPONSE_STREAM = (
    next(case for case in CASES if (case.client, case.name) == wanted)
    for wanted in (
        (anthropic.Anthropic, "a message"),
        (anthropic.Anthropic, "a stream"),
        (openai.OpenAI, "a completion"),
        (openai.OpenAI, "a stream"),
        (openai.OpenAI, "a response"),
        (openai.OpenAI, "a response as a stream"),
    )
)
