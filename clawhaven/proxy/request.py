"""What a request body says that matters to us: the model, its bounds, and what vendors bill outside token prices.

Only these fields are decoded; the body itself goes to the vendor byte for byte.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import msgspec

from clawhaven.metering import Ask
from clawhaven.ports.upstream import Call, Dialect
from clawhaven.proxy.origin import is_turn, last_message, source

_ELSEWHERE = re.compile(rb'"(?:file_id|file_url)"\s*:\s*"|"type"\s*:\s*"(?:url|file)"')
"""Input that is not in the body itself, so that the body's size says nothing about it."""

_LONG_CACHE = re.compile(rb'"ttl"\s*:\s*"(?:1h|12h)"|"(?:12h|24h)"')
_IMAGE = re.compile(rb"[A-Za-z0-9+/]{4000,}={0,2}")
_IMAGE_TOKENS = 8_000
_BYTES_PER_TOKEN = 2
"""A bound, not an estimate: ordinary text has about four bytes per token, dense scripts and code more than two."""

_OVERHEAD_TOKENS = 2_000
_UNBOUNDED = 100_000_000
_FREE_TIERS = frozenset({"auto", "default", "standard", "standard_only", "flex"})
_CLIENT_TOOLS = ("bash_", "text_editor_", "computer", "memory_", "web_fetch_", "tool_search_", "mcp", "apply_patch")
_PLAIN_TOOLS = frozenset({"custom", "function", "namespace", "local_shell"})


class BadBody(Exception):
    """The body is not JSON of this dialect; the message is for the client."""


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Tool(msgspec.Struct):
    type: str | None = None


class _Body(msgspec.Struct):
    model: str
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    stream_options: _StreamOptions | None = None
    messages: list[msgspec.Raw] | None = None
    input: msgspec.Raw = msgspec.Raw(b"null")
    tools: list[_Tool] | None = None
    speed: str | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    background: bool | None = None
    modalities: list[str] | None = None
    web_search_options: dict[str, Any] | None = None
    container: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


@dataclass(frozen=True, slots=True)
class Facts:
    """A request as the upstream sees it (`call`) and as metering sees it (`ask`)."""

    call: Call
    ask: Ask


def trace_of(traceparent: str) -> str | None:
    """The trace id of a W3C `traceparent` header (https://www.w3.org/TR/trace-context/), or None."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    return found.group(1) if found else None


def read_facts(dialect: Dialect, body: bytes, traceparent: str = "") -> Facts:
    """The facts of a body, and the trace that its caller said it belongs to. Raises BadBody."""
    try:
        fields = msgspec.json.decode(body, type=_Body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadBody(f"The request body is not valid: {error}") from None
    limits = (fields.max_tokens, fields.max_completion_tokens, fields.max_output_tokens)
    given = [limit for limit in limits if limit is not None]
    if any(limit < 0 for limit in given) or (fields.n or 1) < 1:
        raise BadBody("A limit of output tokens or a number of choices must be positive.")
    most = max(given) if given else None
    is_stream = bool(fields.stream) and dialect not in (Dialect.ANTHROPIC_COUNT_TOKENS, Dialect.OPENAI_EMBEDDINGS)
    wants_usage = fields.stream_options is not None and fields.stream_options.include_usage is True
    call = Call(fields.model, is_stream, most, wants_usage or not (is_stream and dialect is Dialect.OPENAI_CHAT))
    last = last_message(dialect, fields.messages, fields.input)
    ask = Ask(
        model=fields.model,
        dialect=dialect.value,
        input_bound=_input_bound(fields, body),
        output_bound=_output_bound(dialect, most, fields.n or 1),
        source=source(last),
        is_turn=is_turn(last),
        may_cache_long=_LONG_CACHE.search(body) is not None,
        extra=_extra(fields),
        trace_id=trace_of(traceparent),
    )
    return Facts(call, ask)


def _output_bound(dialect: Dialect, most: int | None, choices: int) -> int | None:
    if dialect is Dialect.OPENAI_EMBEDDINGS:
        return 0
    # More than one choice: the model's own limit holds for each, so without a limit the bound is left open.
    return most if most is None else most * choices


def _input_bound(fields: _Body, body: bytes) -> int:
    if fields.previous_response_id or fields.conversation or fields.prompt or _ELSEWHERE.search(body):
        return _UNBOUNDED
    size, images = len(body), 0
    if b"base64" in body and b"application/pdf" not in body:
        for image in _IMAGE.finditer(body):
            size -= image.end() - image.start()
            images += 1
    return size // _BYTES_PER_TOKEN + images * _IMAGE_TOKENS + _OVERHEAD_TOKENS


def _extra(fields: _Body) -> str | None:
    """The name of something in the request that costs more than its tokens, or whose usage is never reported to us."""
    wanted = {
        "speed": fields.speed not in (None, "standard"),
        "service_tier": fields.service_tier not in (None, *_FREE_TIERS),
        "inference_geo": fields.inference_geo not in (None, "global", "not_available"),
        "background": bool(fields.background),
        "modalities": any(modality != "text" for modality in fields.modalities or ()),
        "web_search_options": fields.web_search_options is not None,
        "container": fields.container is not None,
        "n": (fields.n or 1) > 8,
    }
    for tool in fields.tools or ():
        kind = tool.type or "custom"
        if kind not in _PLAIN_TOOLS and not kind.startswith(_CLIENT_TOOLS):
            return f"the tool {kind[:40]}"
    return next((name for name, is_wanted in wanted.items() if is_wanted), None)
