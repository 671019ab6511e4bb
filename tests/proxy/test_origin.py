"""Who caused a model call, read from what OpenClaw really sends."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from clawhaven.metering import Source
from clawhaven.ports.upstream import Dialect
from clawhaven.proxy.origin import LastMessage, is_turn, last_message, source

NO_INPUT = msgspec.Raw(b"null")


def _last(*messages: dict[str, Any]) -> LastMessage | None:
    raw = [msgspec.Raw(msgspec.json.encode(one)) for one in messages]
    return last_message(Dialect.ANTHROPIC_MESSAGES, raw, NO_INPUT)


def test_the_gateways_own_context_is_not_the_persons_words() -> None:
    context = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nSubagents: HEARTBEAT_OK\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
    last = _last(
        {"role": "user", "content": [{"type": "text", "text": "Hello, who are you?"}]},
        {"role": "user", "content": [{"type": "text", "text": context}]},
    )
    assert last == LastMessage("Hello, who are you?", is_last=True)
    assert source(last) is Source.PERSON
    assert is_turn(last)


@pytest.mark.parametrize("text", ["[cron: 42] water the plants", "Reply HEARTBEAT_OK if nothing needs attention."])
def test_automatic_turns_are_told_apart(text: str) -> None:
    assert source(_last({"role": "user", "content": text})) is Source.AUTOMATIC


def test_a_tools_result_goes_on_with_a_turn() -> None:
    last = _last(
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "web", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]},
    )
    assert last == LastMessage("Look it up.", is_last=False)
    assert not is_turn(last)


def test_no_conversation_has_no_source() -> None:
    assert source(_last()) is Source.UNKNOWN
