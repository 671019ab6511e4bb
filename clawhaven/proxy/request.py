"""What a request body says that matters to us: the model, its bounds, and what vendors bill outside token prices.

Only these fields are decoded; the body itself goes to the vendor byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from clawhaven.metering import Ask
from clawhaven.ports.upstream import Call, Dialect
from clawhaven.proxy.origin import is_turn, last_message, source

_ELSEWHERE = re.compile(rb'"(?:file_id|file_url)"\s*:\s*"|"type"\s*:\s*"(?:url|file)"')
"""Input that is not in the body itself, so that the body's size says nothing about it."""

_LONG_CACHE = re.compile(rb'"ttl"\s*:\s*"(?:1h|12h)"|"(?:12h|24h)"')
_IMAGE_TOKENS = 8_000
"""A bound for one picture, whose size in bytes says nothing: a large one of a single colour has a few hundred."""

_BYTES_PER_TOKEN = 2
"""A bound, not an estimate: ordinary text has about four bytes per token, dense scripts and code more than two."""

_OVERHEAD_TOKENS = 2_000
_UNBOUNDED = 100_000_000
_MOST_CHOICES = 128
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
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
        last = last_message(dialect, fields.messages, fields.input)
    except _UNREADABLE as error:
        raise BadBody(f"The request body is not valid: {error}") from None
    limits = (fields.max_tokens, fields.max_completion_tokens, fields.max_output_tokens)
    given = [limit for limit in limits if limit is not None]
    if any(not 0 <= limit <= _UNBOUNDED for limit in given) or not 1 <= (fields.n or 1) <= _MOST_CHOICES:
        raise BadBody("A limit of output tokens or a number of choices is out of range.")
    most = max(given) if given else None
    is_stream = bool(fields.stream) and dialect not in (Dialect.ANTHROPIC_COUNT_TOKENS, Dialect.OPENAI_EMBEDDINGS)
    wants_usage = fields.stream_options is not None and fields.stream_options.include_usage is True
    call = Call(fields.model, is_stream, most, wants_usage or not (is_stream and dialect is Dialect.OPENAI_CHAT))
    found = source(last, body)
    ask = Ask(
        model=fields.model,
        dialect=dialect.value,
        input_bound=_input_bound(fields, body),
        output_bound=0 if dialect is Dialect.OPENAI_EMBEDDINGS else most,
        choices=fields.n or 1,
        source=found,
        is_turn=is_turn(last, found),
        may_cache_long=_LONG_CACHE.search(body) is not None,
        extra=_extra(fields),
        trace_id=trace_of(traceparent),
    )
    return Facts(call, ask)


def _input_bound(fields: _Body, body: bytes) -> int:
    if fields.previous_response_id or fields.conversation or fields.prompt or _ELSEWHERE.search(body):
        return _UNBOUNDED
    size, images = len(body), 0
    if b"image" in body:  # else there is no picture, and nothing to decode for
        for picture in _pictures(fields):
            size -= len(picture)
            images += 1
    return size // _BYTES_PER_TOKEN + images * _IMAGE_TOKENS + _OVERHEAD_TOKENS


def _pictures(fields: _Body) -> Iterator[str]:
    """What stands in the body for each picture: its base64, or nothing where it is fetched from an address.

    Only in the places where vendors take a picture for one. The same words in a text, or in what a tool was given, are
    billed as text.
    """
    try:
        items = [msgspec.json.decode(message) for message in fields.messages or ()]
        given = msgspec.json.decode(fields.input)
    except _UNREADABLE:
        return
    for item in [*items, *(given if isinstance(given, list) else ())]:
        if isinstance(item, dict):
            for place in ("content", "output"):
                yield from _pictures_in(item.get(place))


def _pictures_in(blocks: Any) -> Iterator[str]:
    for block in blocks if isinstance(blocks, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "image":
            source = block.get("source")
            media, data = (source.get("media_type"), source.get("data")) if isinstance(source, dict) else (None, None)
            yield data if str(media).startswith("image/") and isinstance(data, str) else ""
        elif kind in ("image_url", "input_image"):
            url = block.get("image_url")
            url = url.get("url") if isinstance(url, dict) else url
            yield url if isinstance(url, str) and url.startswith("data:image/") else ""
        elif kind == "tool_result":
            yield from _pictures_in(block.get("content"))


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
