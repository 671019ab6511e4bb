"""The sandbox model: deterministic, in every dialect, streaming and not, with usage that its own readers agree with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from clawhaven.core.settings import Settings
from clawhaven.ports.upstream import Call, Dialect, Usage
from clawhaven.providers.upstreams.sandbox import MODEL, Sandbox, plain, reply

CONTEXT = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nnone\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
MESSAGES = [{"role": "user", "content": "[Sat 2026-11-21 03:57 UTC] Hello"}, {"role": "user", "content": CONTEXT}]
BODIES: dict[Dialect, dict[str, Any]] = {
    Dialect.ANTHROPIC_MESSAGES: {"messages": MESSAGES},
    Dialect.OPENAI_CHAT: {"messages": MESSAGES},
    Dialect.OPENAI_RESPONSES: {"input": MESSAGES},
}


def _ask(tmp_path: Path, dialect: Dialect, is_stream: bool, limit: int | None = None) -> tuple[bytes, Usage | None]:
    vendor = Sandbox(Sandbox.Options(), Settings(data_dir=tmp_path))
    body = json.dumps({"model": MODEL, **BODIES[dialect]}).encode()

    async def collect() -> tuple[bytes, Usage | None]:
        status, _headers, chunks = await vendor.answer(dialect, "/x", body, Call(MODEL, is_stream, limit, True))
        assert status == 200
        reader = vendor.reader(dialect, is_stream)
        whole = b""
        async for chunk in chunks:
            reader.feed(chunk)
            whole += chunk
        return whole, reader.usage()

    return asyncio.run(collect())


@pytest.mark.parametrize("dialect", BODIES)
def test_streamed_and_whole_say_and_count_the_same(tmp_path: Path, dialect: Dialect) -> None:
    whole, counted = _ask(tmp_path, dialect, False)
    streamed, counted_again = _ask(tmp_path, dialect, True)
    assert counted == counted_again
    assert counted is not None
    assert counted.output_tokens == -(-len(reply("Hello").encode()) // 4)
    assert counted.input_tokens > 0
    assert reply("Hello") in json.dumps(json.loads(whole), ensure_ascii=False)
    assert b"Hello" in streamed
    assert _ask(tmp_path, dialect, True)[0] == streamed


@pytest.mark.parametrize("dialect", BODIES)
def test_stops_at_the_limit(tmp_path: Path, dialect: Dialect) -> None:
    _, counted = _ask(tmp_path, dialect, False, limit=5)
    assert counted is not None
    assert counted.output_tokens <= 5


def test_the_gateways_wrapping_is_not_repeated() -> None:
    assert plain("[Sat 2026-11-21 03:57 UTC] Hello, who are you?") == "Hello, who are you?"
    assert plain(CONTEXT) == ""
    assert plain(f"{CONTEXT}\nreal words") == "real words"
    assert "only repeat" in reply("")
