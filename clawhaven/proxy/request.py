"""What a request body says that matters to us: the model, its bounds, and what vendors bill outside token prices.

Only these fields are decoded; the body itself goes to the vendor byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from clawhaven.metering import Ask, Source
from clawhaven.ports.upstream import Call, Dialect
from clawhaven.proxy.origin import is_turn, last_message, source

_ELSEWHERE = re.compile(
    rb'"(?:file_id|file_url)"\s*:\s*"|"type"\s*:\s*"(?:url|file|input_file)"'
    rb'|"media_type"\s*:\s*"application(?:\\?/|\\u002[fF])pdf"'
)
"""Input that is not in the body itself, or whose pages are pictures: the body's size says nothing about it."""

_LETTER = rb"u00(?:3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aA])"
_MAYBE_ESCAPED = re.compile(rb"\\" + _LETTER)
_ESCAPED = re.compile(rb"(?:[^\\]++|\\(?!" + _LETTER + rb").)*+\\" + _LETTER, re.DOTALL)
"""From the body's beginning: a letter, digit or underscore that nobody has to escape, after a backslash that is none
itself. With it any name can be written so that it is not found."""

_ADDED_TOOLS = (b"tool_definition", b"additional_tools", b"tool_search_output")

_LONG_CACHE = re.compile(rb'"ttl"\s*:\s*"(?:1h|12h)"|"(?:12h|24h)"')
_IMAGE_TOKENS = 8_000
"""A bound for one picture, whose size in bytes says nothing: a large one of a single colour has a few hundred."""

_BYTES_PER_TOKEN = 2
"""A bound, not an estimate: ordinary text has about four bytes per token, dense scripts and code more than two."""

_OVERHEAD_TOKENS = 2_000
_UNBOUNDED = 100_000_000
_MOST_CHOICES = 128
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_PLAIN_TIERS = frozenset({"auto", "default", "standard", "standard_only"})
"""Those at the list price: others cost more, `flex` half."""

_CLIENT_TOOLS = ("bash_", "text_editor_", "computer", "memory_", "tool_search_", "apply_patch")
_PLAIN_TOOLS = frozenset({"custom", "function", "namespace", "local_shell"})
_FETCHING_TOOLS = ("web_fetch_", "mcp")
"""What they bring is not in the body. The vendor calls them and asks the model again as often as that takes, so nothing
bounds what one request costs."""

_LIMITS = {
    Dialect.ANTHROPIC_MESSAGES: ("max_tokens",),
    Dialect.OPENAI_CHAT: ("max_completion_tokens", "max_tokens"),
    Dialect.OPENAI_RESPONSES: ("max_output_tokens",),
}
"""What bounds the output. For chat the larger one counts: OpenAI looks at the first, servers like it at the second."""


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
    mcp_servers: Any = None
    thread: Any = None
    fallbacks: Any = None
    fallback_credit_token: Any = None
    billing_policy: Any = None
    compaction: Any = None
    context_management: Any = None


_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")


@dataclass(slots=True)
class Facts:
    """A request as the upstream sees it (`call`) and as metering sees it (`ask`)."""

    call: Call
    ask: Ask


def trace_of(traceparent: str) -> str | None:
    """The trace id of a W3C `traceparent` header (https://www.w3.org/TR/trace-context/), or None."""
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    return found.group(1) if found else None


def read_facts(dialect: Dialect, body: bytes, traceparent: str = "", *, is_program: bool = False) -> Facts:
    """The facts of a body, and the trace that its caller said it belongs to. Raises BadBody.

    `is_program`: its key says that a program of the customer's own asks, whatever the words look like.
    """
    try:
        fields = msgspec.json.decode(body, type=_Body)
        last = last_message(dialect, fields.messages, fields.input)
    except _UNREADABLE as error:
        raise BadBody(f"The request body is not valid: {error}") from None
    limits = (fields.max_tokens, fields.max_completion_tokens, fields.max_output_tokens)
    given = [limit for limit in limits if limit is not None]
    if any(not 0 <= limit <= _UNBOUNDED for limit in given) or not 1 <= (fields.n or 1) <= _MOST_CHOICES:
        raise BadBody("A limit of output tokens or a number of choices is out of range.")
    bounds = [limit for name in _LIMITS.get(dialect, ()) if (limit := getattr(fields, name)) is not None]
    most = max(bounds) if bounds else None
    is_stream = bool(fields.stream) and dialect not in (Dialect.ANTHROPIC_COUNT_TOKENS, Dialect.OPENAI_EMBEDDINGS)
    wants_usage = fields.stream_options is not None and fields.stream_options.include_usage is True
    call = Call(fields.model, is_stream, most, wants_usage or not (is_stream and dialect is Dialect.OPENAI_CHAT))
    found = Source.PROGRAM if is_program else source(last, body)
    has_escapes = _MAYBE_ESCAPED.search(body) is not None and _ESCAPED.match(body) is not None
    tools = _tools(fields, body, has_escapes)
    ask = Ask(
        model=fields.model,
        dialect=dialect.value,
        input_bound=_UNBOUNDED if has_escapes else _input_bound(fields, tools, body),
        output_bound=0 if dialect is Dialect.OPENAI_EMBEDDINGS else most,
        choices=fields.n or 1,
        source=found,
        is_turn=is_turn(last, found),
        may_cache_long=has_escapes or _LONG_CACHE.search(body) is not None,
        extra=_extra(fields, tools),
        trace_id=trace_of(traceparent),
        passes=2 if _may_compact(fields) else 1,
    )
    return Facts(call, ask)


def _input_bound(fields: _Body, tools: list[str], body: bytes) -> int:
    if fields.previous_response_id or fields.conversation or fields.prompt or fields.thread or fields.mcp_servers:
        return _UNBOUNDED
    if any(tool.startswith(_FETCHING_TOOLS) for tool in tools) or _ELSEWHERE.search(body):
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
    for item in _items(fields):
        for place in ("content", "output"):
            yield from _pictures_in(item.get(place))


def _items(fields: _Body) -> Iterator[dict[str, Any]]:
    """The messages, or the items of the input."""
    try:
        items = [msgspec.json.decode(message) for message in fields.messages or ()]
        given = msgspec.json.decode(fields.input)
    except _UNREADABLE:
        return
    for item in [*items, *(given if isinstance(given, list) else ())]:
        if isinstance(item, dict):
            yield item


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


def _tools(fields: _Body, body: bytes, has_escapes: bool) -> list[str]:
    """The types of all tools in the request, of those too that messages add on the way."""
    found = [tool.type or "custom" for tool in fields.tools or ()]
    if has_escapes or any(word in body for word in _ADDED_TOOLS):
        for item in _items(fields):
            found += [_type_of(tool) for tool in _added_tools(item)]
    return found


def _added_tools(item: dict[str, Any]) -> Iterator[Any]:
    """OpenAI's items have them in `tools`, Anthropic's blocks in `tool`, those of a compaction in `tool_changes`."""
    given, content = item.get("tools"), item.get("content")
    yield from given if isinstance(given, list) else ()
    for block in content if isinstance(content, list) else ():
        changes = block.get("tool_changes") if isinstance(block, dict) else None
        for change in [block, *(changes if isinstance(changes, list) else ())]:
            tool = change.get("tool") if isinstance(change, dict) else None
            if isinstance(tool, dict) and tool.get("type") == "tool_definition":
                yield tool.get("definition")


def _type_of(tool: Any) -> str:
    return str(tool.get("type") or "custom") if isinstance(tool, dict) else "custom"


def _may_compact(fields: _Body) -> bool:
    """True when the vendor may read the whole conversation once more, and write a summary of it."""
    given = fields.context_management
    edits = given.get("edits") if isinstance(given, dict) else given
    kinds = [_type_of(edit) for edit in edits] if isinstance(edits, list) else []
    return fields.compaction is not None or any(kind.startswith("compact") for kind in kinds)


def _extra(fields: _Body, tools: list[str]) -> str | None:
    """The name of something in the request that costs more than its tokens, or whose usage is never reported to us."""
    wanted = {
        "speed": fields.speed not in (None, "standard"),
        "service_tier": fields.service_tier not in (None, *_PLAIN_TIERS),
        "inference_geo": fields.inference_geo not in (None, "global", "not_available"),
        "background": bool(fields.background),
        "modalities": any(modality != "text" for modality in fields.modalities or ()),
        "web_search_options": fields.web_search_options is not None,
        "container": fields.container is not None,
        "n": (fields.n or 1) > 8,
        "fallbacks": fields.fallbacks is not None,
        "fallback_credit_token": fields.fallback_credit_token is not None,
        "billing_policy": fields.billing_policy is not None,
        "thread": fields.thread is not None,
        "mcp_servers": bool(fields.mcp_servers),
    }
    for kind in tools:
        if kind not in _PLAIN_TOOLS and not kind.startswith(_CLIENT_TOOLS):
            return f"the tool {kind[:40]}"
    return next((name for name, is_wanted in wanted.items() if is_wanted), None)
