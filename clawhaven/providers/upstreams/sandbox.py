"""A model without an account: deterministic, local, in both vendors' dialects. It repeats what it hears.

A token is 4 bytes of text (rounded up per request): input is all text under system, instructions, messages, input and
tools; output is the answer. It never calls tools.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import msgspec

from clawhaven.core.settings import EnvSettings, Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Call, Dialect, OutRequest, UsageReader
from clawhaven.providers.upstreams import sandbox_shapes as shapes
from clawhaven.providers.upstreams.reading import BYTES_PER_TOKEN, tokens_of

MODEL = "sandbox-1"
EMBEDDING_SIZE = 256
ECHO_CHARACTERS = 500

_CONTEXT_MARK = "⟦openclaw:ctx⟧"
_CONTEXT_BLOCK = re.compile(r"<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>.*?(?:<<<END_OPENCLAW_INTERNAL_CONTEXT>>>|\Z)", re.S)
_TIMESTAMP = re.compile(r"^\[[A-Za-z]{3} \d{4}-\d{2}-\d{2} \d{2}:\d{2}[^\]]*\] *")
_ENVELOPE = re.compile(r"^\[[A-Z][A-Za-z ]+ [^\]\n]*\d{2}:\d{2}[^\]\n]*\] *")
_PROMPT_FIELDS = ("system", "instructions", "messages", "input", "tools", "prompt")


class Sandbox:
    """The built-in model. Refused in production by whoever builds the list of upstreams."""

    name = "sandbox"
    label = "Sandbox"
    key_prefix = "sk-sandbox-"
    keys_url = ""
    is_ready = True

    class Options(EnvSettings):
        """It has no settings."""

    def __init__(self, options: Options, settings: Settings) -> None:
        self._options = options

    def check_key(self, api_key: str) -> None:
        """Any key that begins with `sk-sandbox-` and goes on is taken."""
        if not api_key.startswith(self.key_prefix) or api_key == self.key_prefix:
            raise ProviderError("the sandbox does not take this key", permanent=True, code="invalid_api_key")

    def dialects(self) -> frozenset[Dialect]:
        """Everything that carries a prompt."""
        return frozenset(Dialect) - {Dialect.MODELS}

    def request(
        self, dialect: Dialect, path: str, headers: Mapping[str, str], body: bytes, api_key: str, call: Call
    ) -> OutRequest:
        """There is nothing to send to: `answer` does the work."""
        raise ProviderError("the sandbox model answers inside this process", permanent=True, code="local")

    def reader(self, dialect: Dialect, is_stream: bool) -> UsageReader:
        """The reader for its own answers, which are in the vendors' formats."""
        return shapes.reader(dialect, is_stream)

    async def answer(
        self, dialect: Dialect, path: str, body: bytes, call: Call
    ) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
        """Status, headers and the body's chunks."""
        asked: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
        prompt = tokens_of(sum(len(text.encode()) for field in _PROMPT_FIELDS for text in _strings(asked.get(field))))
        if dialect is Dialect.ANTHROPIC_COUNT_TOKENS:
            return _whole({"input_tokens": prompt})
        if dialect is Dialect.OPENAI_EMBEDDINGS:
            return _whole(_embeddings(asked, call.model))
        limit = call.max_output_tokens
        text, is_cut = _cut(reply(last_message(asked)), limit)
        said = shapes.Said(
            id=hashlib.sha256(body).hexdigest()[:24],
            model=call.model,
            text=text,
            input_tokens=prompt,
            output_tokens=tokens_of(len(text.encode())),
            is_cut=is_cut,
        )
        if not call.is_stream:
            return _whole(shapes.whole(dialect, said))
        wants_usage = call.reports_stream_usage
        return (
            200,
            {"content-type": "text/event-stream; charset=utf-8"},
            _each(shapes.stream(dialect, said, wants_usage)),
        )


def reply(message: str) -> str:
    """The sentence the sandbox model answers with."""
    if not message:
        return "Hello! I am the sandbox model of this installation: I only repeat what I hear."
    short = message if len(message) <= ECHO_CHARACTERS else message[:ECHO_CHARACTERS] + "…"
    return (
        f"You said: “{short}”. I am the sandbox model: I repeat what I hear, so that everything around me "
        "can be tried without an account at a model vendor."
    )


def last_message(asked: Mapping[str, Any]) -> str:
    """The person's last message, without what the gateway wraps around it."""
    turns = asked.get("messages") or asked.get("input") or ""
    if isinstance(turns, str):
        return plain(turns)
    for turn in reversed(turns):
        if isinstance(turn, dict) and turn.get("role") == "user":
            text = plain(" ".join(_texts(turn.get("content"))))
            if text:
                return text
    return ""


def plain(text: str) -> str:
    """`text` without OpenClaw's context blocks, envelope and timestamp (its strip-inbound-meta does the same)."""
    lines = _CONTEXT_BLOCK.sub("", text).split("\n")
    kept: list[str] = []
    while lines:
        line = lines.pop(0)
        if not line.strip().endswith(_CONTEXT_MARK):
            kept.append(line)
            continue
        is_fenced = bool(lines) and lines[0].strip() == "```json"
        if is_fenced:
            lines.pop(0)
        while lines and lines.pop(0).strip() != ("```" if is_fenced else ""):
            pass
    stripped = _TIMESTAMP.sub("", "\n".join(kept).strip())
    return _TIMESTAMP.sub("", _ENVELOPE.sub("", stripped)).strip()


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for block in content if isinstance(content, list) else ():
        if isinstance(block, dict) and isinstance(block.get("text"), str):
            yield block["text"]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _cut(text: str, limit: int | None) -> tuple[str, bool]:
    if limit is None or tokens_of(len(text.encode())) <= limit:
        return text, False
    return text.encode()[: limit * BYTES_PER_TOKEN].decode(errors="ignore"), True


def _embeddings(asked: Mapping[str, Any], model: str) -> dict[str, Any]:
    given = asked.get("input")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    size = asked.get("dimensions") if isinstance(asked.get("dimensions"), int) else EMBEDDING_SIZE
    vectors = [_vector(msgspec.json.encode(text), min(max(int(size or 0), 1), 4096)) for text in inputs]
    is_packed = asked.get("encoding_format") == "base64"
    used = sum(tokens_of(len(msgspec.json.encode(text))) for text in inputs)
    return {
        "object": "list",
        "model": model,
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
                if is_packed
                else vector,
            }
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _vector(data: bytes, size: int) -> list[float]:
    raw = hashlib.shake_256(data).digest(size)
    norm = sum((byte - 127.5) ** 2 for byte in raw) ** 0.5
    return [(byte - 127.5) / norm for byte in raw]


def _whole(value: Mapping[str, Any]) -> tuple[int, dict[str, str], AsyncIterator[bytes]]:
    return 200, {"content-type": "application/json"}, _each([msgspec.json.encode(value)])


async def _each(chunks: Iterator[bytes] | list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
