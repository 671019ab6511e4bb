"""Who caused a model call: a person's message, or something automatic. Read from the last message of the request.

OpenClaw 2026.9 sends no header that says so; what it puts into the message of automatic turns is listed here. Unknown
automatic turns count as a person's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from clawhaven.metering import Source
from clawhaven.ports.upstream import Dialect

AUTOMATIC = re.compile(
    r"HEARTBEAT_OK|HEARTBEAT\.md|heartbeat poll|^\W*\[cron[: ]|scheduled (?:reminder|task) has been triggered"
    r"|Pre-compaction memory flush|^\s*<conversation>|^Summari[sz]e (?:this|the) conversation|^\[Subagent Context\]",
    re.IGNORECASE | re.MULTILINE,
)
_CONTEXT_BLOCK = re.compile(r"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>.*?(?:<<<END_OPENCLAW_INTERNAL_CONTEXT>>>|\Z)", re.S)
"""What the gateway tells the model beside the conversation, in a message of the user role of its own after it."""

_LOOKED_AT = 8_000
"""Characters looked at from each end of a message."""


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The newest text of the user role. `is_last`: nothing (such as a tool's result) came after it."""

    text: str
    is_last: bool


def source(last: LastMessage | None) -> Source:
    """Who caused the call that has this last message."""
    if last is None:
        return Source.UNKNOWN
    is_automatic = AUTOMATIC.search(last.text[:_LOOKED_AT]) or AUTOMATIC.search(last.text[-_LOOKED_AT:])
    return Source.AUTOMATIC if is_automatic else Source.PERSON


def is_turn(last: LastMessage | None) -> bool:
    """True when the call begins a person's turn instead of going on with one."""
    return last is not None and last.is_last and source(last) is Source.PERSON


def last_message(dialect: Dialect, messages: Sequence[msgspec.Raw] | None, given: msgspec.Raw) -> LastMessage | None:
    """The newest message of the user role with text in it; None when there is none (or no conversation at all)."""
    if dialect is Dialect.OPENAI_EMBEDDINGS:
        return None
    if dialect is not Dialect.OPENAI_RESPONSES:
        return _newest(messages or ())
    raw = bytes(given)
    if raw.startswith(b'"'):
        return LastMessage(msgspec.json.decode(raw, type=str), is_last=True)
    return _newest(msgspec.json.decode(raw, type=list[msgspec.Raw])) if raw.startswith(b"[") else None


def _newest(messages: Sequence[msgspec.Raw]) -> LastMessage | None:
    is_last = True
    for raw in reversed(messages):
        message = msgspec.json.decode(raw)
        if not isinstance(message, dict) or message.get("role") in ("system", "developer"):
            continue
        text, has_results = _text(message.get("content"))
        spoken = _CONTEXT_BLOCK.sub("", text).strip()
        if message.get("role") == "user" and text and not spoken and not has_results:
            continue
        if message.get("role") == "user" and spoken and not has_results:
            return LastMessage(spoken, is_last)
        is_last = False
    return None


def _text(content: Any) -> tuple[str, bool]:
    """The text of a message's content, and whether it carries results of tools."""
    if isinstance(content, str):
        return content, False
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
    is_media = any(str(block.get("type", "")).startswith(("image", "input_image", "input_audio")) for block in blocks)
    has_results = any(block.get("type") == "tool_result" for block in blocks)
    return "\n".join(texts) or ("(media)" if is_media else ""), has_results
