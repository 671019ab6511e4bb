"""What the benchmark asks: request bodies of both dialects, and how a whole answer is known."""

from __future__ import annotations

import json
from dataclasses import dataclass

from bench.proxy.stub import MARK

SMALL_BYTES, LARGE_BYTES = 1_000, 100_000
PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}
FILLER = "The quick brown fox jumps over the lazy dog while the bench looks at its clock. "


@dataclass(frozen=True, slots=True)
class Question:
    """One request, and the words that a whole answer to it has (`marks`, all of them)."""

    path: str
    body: bytes
    marks: tuple[str, ...]


def ask(dialect: str, model: str, *, size: int = SMALL_BYTES, is_stream: bool = False, pace_ms: int = 0) -> Question:
    """A question whose body has `size` bytes. A stream comes at once, or its pieces `pace_ms` apart."""
    pace = f"pace={pace_ms} " if pace_ms else ""
    rough = _body(dialect, model, pace, is_stream)
    text = (FILLER * (size // len(FILLER) + 1))[: max(0, size - len(rough))]
    body = _body(dialect, model, pace + text, is_stream)
    ends = {"openai": "[DONE]", "anthropic": '"message_stop"'}
    tokens = {"openai": '"completion_tokens"', "anthropic": '"output_tokens"'}[dialect]
    return Question(PATHS[dialect], body, (tokens, ends[dialect] if is_stream else MARK))


def _body(dialect: str, model: str, text: str, is_stream: bool) -> bytes:
    value: dict[str, object] = {"model": model, "max_tokens": 1024}
    if is_stream:
        value["stream"] = True
        if dialect == "openai":
            value["stream_options"] = {"include_usage": True}
    value["messages"] = [{"role": "user", "content": text}]
    return json.dumps(value).encode()
