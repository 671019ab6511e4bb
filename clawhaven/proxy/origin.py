"""Who caused a model call: a person's message, or something automatic. Read from the request itself.

OpenClaw 2026.9 sends no header that says so. What it does say was recorded from a real gateway (recorded_origins.json
in the tests): the first words of the newest message, and, in the system prompt, the name of the session. A heartbeat
runs in the person's own session, so there the words decide. Unknown automatic turns count as a person's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from clawhaven.metering import Source
from clawhaven.ports.upstream import Dialect

_SESSION = re.compile(rb"[^:|\" ]{1,100}:(\w{1,20})")
_SESSIONS = {b"cron": Source.CRON, b"subagent": Source.SUBAGENT}
_SESSION_MARK = b"| session=agent:"
_RUNTIME, _RUNTIME_LENGTH = b"Runtime: ", 300
"""In the system prompt: `Runtime: … | agent=main | session=agent:main:cron:… | …`."""

_STAMP = r"\s*(?:\[\w{3} \d{4}-\d\d-\d\d \d\d:\d\d[^\]\n]{0,20}\]\s*)?"
"""The gateway dates what it passes on: `[Sat 2026-11-21 16:38 UTC] `."""

_BEGINS = re.compile(
    _STAMP
    + r"(?:(?P<compaction><conversation>|Summari[sz]e (?:this|the) conversation|Pre-compaction memory flush)"
    + r"|(?P<subagent>\[Subagent Context\]|A background task completed\b(?=[^<]{0,200}\bsource: subagent\b)"
    + r"|\[OpenClaw runtime event\]|\[Inter-session message\])"
    + r"|(?P<cron>\W{0,8}\[cron[: ]|A scheduled (?:reminder|task|cron event) (?:has been|was) triggered"
    + r"|\[OpenClaw cron wake\])"
    + r"|(?P<heartbeat>Follow the heartbeat monitor scratch|Run the following periodic tasks"
    + r"|\[OpenClaw heartbeat poll\])"
    + r"|(?P<automatic>An async command (?:you ran earlier|completion event)|A background task completed\b"
    + r"|\[OpenClaw (?:exec completion|session event)\]))",
    re.IGNORECASE,
)
_UNATTENDED = "\nThis is an unattended scheduled run."
_HEARTBEAT_WORDS = ("HEARTBEAT", "\nHeartbeat monitor", "\nReference UTC")
_HEARTBEAT = re.compile(
    r"HEARTBEAT_OK|HEARTBEAT\.md|\nHeartbeat monitor scratch:\n|\nReference UTC: [-\d]{10} [:\d]{5} UTC\s*$"
)
"""An operator's own heartbeat prompt: it asks for the old acknowledgement, or ends in the time, as no person's does."""

_CONTEXT_BEGIN, _CONTEXT_END = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>", "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
"""What the gateway tells the model beside the conversation, in a message of the user role of its own after it."""

_MOST_SESSIONS = 64
"""Names of sessions looked at in a body. A conversation with more of them quotes others, whatever its own is."""

_MOST_MESSAGES = 2_000
"""Messages looked at, from the newest: so many in a row without a word of the user's are no conversation."""

_LOOKED_AT = 8_000
"""Characters looked at from each end of a message."""


@dataclass(frozen=True, slots=True)
class LastMessage:
    """The newest text of the user role. `is_last`: nothing (such as a tool's result) came after it."""

    text: str
    is_last: bool


def source(last: LastMessage | None, body: bytes = b"") -> Source:
    """Who caused the call that has this last message and body."""
    begun = _BEGINS.match(last.text) if last is not None else None
    if begun is not None:
        return Source(str(begun.lastgroup))
    session = _session(body)
    if session is not None or last is None:
        return session or Source.UNKNOWN
    text = last.text
    end = text[-_LOOKED_AT:]
    if _UNATTENDED in end:
        return Source.CRON
    is_heartbeat = _is_heartbeat(end) or (len(text) > _LOOKED_AT and _is_heartbeat(text[:_LOOKED_AT]))
    return Source.HEARTBEAT if is_heartbeat else Source.PERSON


def _is_heartbeat(text: str) -> bool:
    # Looking for the words alone is many times cheaper than the expression.
    return any(word in text for word in _HEARTBEAT_WORDS) and _HEARTBEAT.search(text) is not None


def _session(body: bytes) -> Source | None:
    """What the session is for, by its name; None for a person's, and where a conversation quotes another's."""
    found, place = None, body.find(_SESSION_MARK)
    for _ in range(_MOST_SESSIONS):
        if place < 0:
            return found
        begin = place + len(_SESSION_MARK)
        name = _SESSION.match(body, begin)
        if name and body.rfind(_RUNTIME, max(0, place - _RUNTIME_LENGTH), place) >= 0:
            kind = _SESSIONS.get(name.group(1))
            if kind is None or found not in (None, kind):
                return None
            found = kind
        place = body.find(_SESSION_MARK, begin)
    return found if place < 0 else None


def is_turn(last: LastMessage | None, found: Source) -> bool:
    """True when the call begins a person's turn, or a program's, instead of going on with one. `found`: its source."""
    return last is not None and last.is_last and found in (Source.PERSON, Source.PROGRAM)


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
    for raw in messages[: -_MOST_MESSAGES - 1 : -1]:
        message = msgspec.json.decode(raw)
        if not isinstance(message, dict) or message.get("role") in ("system", "developer"):
            continue
        text, has_results = _text(message.get("content"))
        spoken = _without_context(text).strip()
        if message.get("role") == "user" and text and not spoken and not has_results:
            continue
        if message.get("role") == "user" and spoken and not has_results:
            return LastMessage(spoken, is_last)
        is_last = False
    return None


def _without_context(text: str) -> str:
    before, *blocks = text.split(_CONTEXT_BEGIN)
    return before + "".join(block.partition(_CONTEXT_END)[2] for block in blocks)


def _text(content: Any) -> tuple[str, bool]:
    """The text of a message's content, and whether it carries results of tools."""
    if isinstance(content, str):
        return content, False
    blocks = [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    texts = [block["text"] for block in blocks if isinstance(block.get("text"), str)]
    is_media = any(str(block.get("type", "")).startswith(("image", "input_image", "input_audio")) for block in blocks)
    has_results = any(block.get("type") == "tool_result" for block in blocks)
    return "\n".join(texts) or ("(media)" if is_media else ""), has_results
