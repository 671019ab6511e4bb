"""What the proxy tests send and what their vendors answer."""

from __future__ import annotations

import json
from typing import Any

CLAUDE = "claude-sonnet-5-5"
GPT = "gpt-6.1-sol"
HELLO = [{"role": "user", "content": "hello"}]
TOOL_RESULT = [
    *HELLO,
    {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x", "input": {}}]},
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]},
]


def claude_body(**fields: Any) -> dict[str, Any]:
    return {"model": CLAUDE, "max_tokens": 100, "messages": HELLO, **fields}


def sse(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


START = sse(
    "message_start",
    message={
        "usage": {
            "input_tokens": 10,
            "cache_creation_input_tokens": 300,
            "cache_read_input_tokens": 1000,
            "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
            "output_tokens": 1,
        }
    },
)
TEXT = sse("content_block_delta", index=0, delta={"type": "text_delta", "text": "x" * 400})
DELTA = sse("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 77})
STOP = sse("message_stop")
