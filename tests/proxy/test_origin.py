"""Who caused a model call, read from what OpenClaw really sends."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clawhaven.metering import Source
from clawhaven.ports.upstream import Dialect
from clawhaven.proxy.origin import LastMessage, _session, is_turn, last_message, source
from clawhaven.proxy.request import read_facts

NO_INPUT = msgspec.Raw(b"null")
RECORDED: list[dict[str, Any]] = json.loads(Path(__file__).with_name("recorded_origins.json").read_text())
"""Requests of a real gateway (2026.9.6): the newest messages of each, and of its system prompt the line that counts."""


def _last(*messages: dict[str, Any]) -> LastMessage | None:
    raw = [msgspec.Raw(msgspec.json.encode(one)) for one in messages]
    return last_message(Dialect.ANTHROPIC_MESSAGES, raw, NO_INPUT)


def _source(text: str) -> Source:
    return source(_last({"role": "user", "content": text}))


@pytest.mark.parametrize("recorded", RECORDED, ids=[one["what"] for one in RECORDED])
def test_what_a_real_gateway_sends(recorded: dict[str, Any]) -> None:
    body = recorded["body"]
    system = body["system"][0]["text"]
    chat = [{"role": "system", "content": system}, *body["messages"]]
    responses = {"model": "m", "instructions": system, "input": body["messages"]}
    for dialect, given in (
        (Dialect.ANTHROPIC_MESSAGES, body),
        (Dialect.OPENAI_CHAT, {"model": "m", "messages": chat}),
        (Dialect.OPENAI_RESPONSES, responses),
    ):
        ask = read_facts(dialect, json.dumps(given).encode()).ask
        assert ask.source == recorded["source"], dialect
        newest = [block for message in body["messages"][-2:] for block in message["content"]]
        has_results = any(block["type"] == "tool_result" for block in newest)
        assert ask.is_turn == (recorded["source"] == "person" and not has_results), dialect


def test_every_kind_but_the_nameless_ones_was_recorded() -> None:
    assert {one["source"] for one in RECORDED} == set(Source) - {Source.AUTOMATIC, Source.PROGRAM, Source.UNKNOWN}


def test_the_gateways_own_context_is_not_the_persons_words() -> None:
    context = "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>\nSubagents: HEARTBEAT_OK\n<<<END_OPENCLAW_INTERNAL_CONTEXT>>>"
    last = _last(
        {"role": "user", "content": [{"type": "text", "text": "Hello, who are you?"}]},
        {"role": "user", "content": [{"type": "text", "text": context}]},
    )
    assert last == LastMessage("Hello, who are you?", is_last=True)
    assert source(last) is Source.PERSON
    assert is_turn(last, Source.PERSON)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[cron: 42] water the plants", Source.CRON),
        ("A scheduled cron event was triggered, but no event content was found.", Source.CRON),
        ("Fetch the mail.\n\nThis is an unattended scheduled run. Nobody is present.", Source.CRON),
        ("Reply HEARTBEAT_OK if nothing needs attention.", Source.HEARTBEAT),
        ("Run the following periodic tasks (only those due):\n- mail: look", Source.HEARTBEAT),
        ("Look around.\nCurrent time: Saturday (UTC)\nReference UTC: 2026-11-21 16:38 UTC", Source.HEARTBEAT),
        ("An async command you ran earlier has completed. The details are:", Source.AUTOMATIC),
        ("[Sat 2026-11-21 16:38 UTC] [OpenClaw session event]", Source.AUTOMATIC),
        ("A background task completed. Use this.\n\nsource: exec\ntype: command", Source.AUTOMATIC),
        ("Pre-compaction memory flush. Store now.", Source.COMPACTION),
    ],
)
def test_automatic_turns_are_told_apart(text: str, expected: Source) -> None:
    assert _source(text) is expected
    assert expected.is_automatic


@pytest.mark.parametrize(
    "text",
    [
        "[Sat 2026-11-21 16:38 UTC] What does [cron: 42] mean?",
        "Why does it say 'A background task completed.'?",
        "It wrote <conversation> to me.",
        "[System] Your previous turn was interrupted by a gateway restart.",
        "Current time: noon. Reference UTC: later",
    ],
)
def test_a_person_who_writes_about_such_things_is_a_person(text: str) -> None:
    assert _source(text) is Source.PERSON


def test_a_quoted_session_does_not_make_a_persons_turn_automatic() -> None:
    own = "Runtime: name=Ada | agent=main | session=agent:main:main | sessionId=1"
    other = "Runtime: name=Ada | agent=main | session=agent:main:cron:7 | sessionId=2"
    body = {"model": "m", "messages": [{"role": "user", "content": f"What is this: {other}"}], "system": own}
    found = read_facts(Dialect.ANTHROPIC_MESSAGES, json.dumps(body).encode()).ask
    assert (found.source, found.is_turn) == (Source.PERSON, True)
    body["system"] = other
    assert read_facts(Dialect.ANTHROPIC_MESSAGES, json.dumps(body).encode()).ask.source is Source.CRON


def test_a_body_full_of_sessions_costs_little_and_says_nothing() -> None:
    one = "Runtime: name=Ada | agent=main | session=agent:main:cron:7 | sessionId=2\n"
    body = {"model": "m", "messages": [{"role": "user", "content": one * 5}], "system": one}
    assert read_facts(Dialect.ANTHROPIC_MESSAGES, json.dumps(body).encode()).ask.source is Source.CRON
    body["messages"] = [{"role": "user", "content": one * 100_000}]
    raw = json.dumps(body).encode()
    begun = time.process_time()
    assert _session(raw) is None
    assert time.process_time() - begun < 0.05


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("a <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>b<<<END_OPENCLAW_INTERNAL_CONTEXT>>> c", "a  c"),
        ("a <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>b <<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>c", "a"),
        (
            "<<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>><<<BEGIN_OPENCLAW_INTERNAL_CONTEXT>>>b"
            "<<<END_OPENCLAW_INTERNAL_CONTEXT>>>c<<<END_OPENCLAW_INTERNAL_CONTEXT>>>",
            "c<<<END_OPENCLAW_INTERNAL_CONTEXT>>>",
        ),
    ],
)
def test_context_ends_where_it_says_or_with_the_message(text: str, spoken: str) -> None:
    assert _last({"role": "user", "content": text}) == LastMessage(spoken, is_last=True)


def test_only_the_newest_messages_are_looked_at() -> None:
    message = {"role": "user", "content": "Hello"}
    rest = [{"role": "assistant", "content": "Yes?"}]
    assert _last(message, *rest * 1_999) == LastMessage("Hello", is_last=False)
    assert _last(message, *rest * 2_000) is None


def test_only_what_begins_without_a_person_is_idle() -> None:
    idle = {Source.HEARTBEAT, Source.CRON, Source.AUTOMATIC}
    assert {one for one in Source if one.is_idle} == idle
    assert {one for one in Source if one.is_automatic} == idle | {Source.SUBAGENT, Source.COMPACTION}


def test_a_tools_result_goes_on_with_a_turn() -> None:
    last = _last(
        {"role": "user", "content": "Look it up."},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "web", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "42"}]},
    )
    assert last == LastMessage("Look it up.", is_last=False)
    assert not is_turn(last, source(last))


def test_no_conversation_has_no_source() -> None:
    assert source(_last()) is Source.UNKNOWN
