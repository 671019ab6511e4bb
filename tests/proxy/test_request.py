"""What is read from a request: bounds that hold, extras, and who caused it."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import pytest

from clawhaven.metering import Source
from clawhaven.ports.upstream import Dialect
from clawhaven.proxy.request import Facts, read_facts

MESSAGES, CHAT, RESPONSES = Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES
PDF = {"media_type": "application/pdf", "data": "AAAA"}


def adding(tool: dict[str, Any]) -> dict[str, Any]:
    """Anthropic's block that makes a tool known from there on."""
    return {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}}


ADDED = adding({"type": "mcp_toolset", "mcp_server_name": "x"})


def facts(dialect: Dialect, **fields: Any) -> Facts:
    return read_facts(dialect, json.dumps({"model": "m", **fields}).encode())


def user(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("dialect", "given", "bound"),
    [
        (MESSAGES, {"max_tokens": 5, "max_completion_tokens": 9, "max_output_tokens": 9}, 5),
        (MESSAGES, {"max_output_tokens": 5, "max_completion_tokens": 5}, None),
        (CHAT, {"max_tokens": 5, "max_output_tokens": 9}, 5),
        (CHAT, {"max_tokens": 5, "max_completion_tokens": 9}, 9),
        (CHAT, {"max_tokens": 9, "max_completion_tokens": 5}, 9),
        (CHAT, {"max_output_tokens": 5}, None),
        (RESPONSES, {"max_output_tokens": 5, "max_tokens": 9}, 5),
        (RESPONSES, {"max_tokens": 5, "max_completion_tokens": 5}, None),
    ],
)
def test_a_limit_that_the_vendor_does_not_know_is_none(dialect: Dialect, given: dict[str, int], bound: int | None):
    found = facts(dialect, **given)
    assert (found.ask.output_bound, found.call.max_output_tokens) == (bound, bound)


def test_the_output_bound_is_the_largest_limit_for_each_of_the_choices():
    assert facts(MESSAGES, max_tokens=5).ask.output_bound == 5
    three = facts(CHAT, max_tokens=5, max_completion_tokens=9, n=3).ask
    assert (three.output_bound, three.choices) == (9, 3)
    assert (facts(CHAT, n=8).ask.output_bound, facts(CHAT, n=8).ask.choices) == (None, 8)
    assert facts(CHAT).ask.choices == 1
    assert facts(RESPONSES, max_output_tokens=7).ask.output_bound == 7
    assert facts(CHAT).ask.output_bound is None
    assert facts(Dialect.OPENAI_EMBEDDINGS, input="x").ask.output_bound == 0


def test_the_input_bound_grows_with_the_text_and_not_with_pictures():
    text = facts(MESSAGES, messages=user("word " * 10_000)).ask.input_bound
    assert text > 25_000
    picture = base64.b64encode(os.urandom(900_000)).decode()
    source = {"type": "base64", "media_type": "image/png", "data": picture}
    with_picture = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    assert 8_000 < facts(MESSAGES, messages=with_picture).ask.input_bound < 20_000
    as_pdf = json.loads(json.dumps(with_picture).replace("image/png", "application/pdf"))
    assert facts(MESSAGES, messages=as_pdf).ask.input_bound > 500_000


LETTERS = "abcdefghij" * 120_000
ADDRESS = "data:image/png;base64," + LETTERS
LIKE_A_PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": LETTERS}}


@pytest.mark.parametrize(
    "messages",
    [
        user(f"This is not base64: {LETTERS}"),
        user(ADDRESS),
        user(json.dumps(LIKE_A_PICTURE)),
        [{"role": "user", "content": [{"type": "text", "text": ADDRESS}, {"type": "image", "source": {}}]}],
        [{"role": "user", "content": [{"type": "text", "text": LETTERS, "source": LIKE_A_PICTURE["source"]}]}],
        [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x", "input": LIKE_A_PICTURE}]}],
        [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x", "input": {"url": ADDRESS}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": LETTERS}}]}],
        [LIKE_A_PICTURE, LETTERS, None],
    ],
)
def test_text_is_counted_whatever_it_looks_like(messages: list[Any]):
    assert facts(MESSAGES, messages=messages).ask.input_bound > 590_000
    assert facts(CHAT, messages=messages, tools=[{"type": "image"}]).ask.input_bound > 590_000


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        (MESSAGES, {"messages": [{"role": "user", "content": [LIKE_A_PICTURE]}]}),
        (
            MESSAGES,
            {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [LIKE_A_PICTURE]}]}]},
        ),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": ADDRESS}}]}]}),
        (RESPONSES, {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": ADDRESS}]}]}),
        (
            RESPONSES,
            {"input": [{"type": "function_call_output", "output": [{"type": "input_image", "image_url": ADDRESS}]}]},
        ),
    ],
)
def test_a_picture_is_counted_as_one_wherever_a_vendor_takes_it(dialect: Dialect, fields: dict[str, Any]):
    assert 10_000 <= facts(dialect, **fields).ask.input_bound < 11_000


@pytest.mark.parametrize("url", ["https://example.com/a.png", "data:image/png;base64,iVBORw0KGgo="])
def test_small_bytes_are_no_small_picture(url: str):
    content = [{"type": "image_url", "image_url": {"url": url}}] * 20
    assert facts(CHAT, messages=[{"role": "user", "content": content}]).ask.input_bound > 160_000


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1", "input": "x"},
        {"conversation": {"id": "conv_1"}, "input": "x"},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file_1"}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url", "url": "x"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "document", "source": {**PDF, "type": "base64"}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"source": PDF}]}]}]},
        {
            "input": [
                {"role": "user", "content": [{"type": "input_file", "file_data": "data:application/pdf;base64,AA"}]}
            ]
        },
        {"tools": [{"type": "web_fetch_20260318", "name": "web_fetch"}]},
        {"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://x.example"}]},
        {"mcp_servers": [{"type": "url", "url": "https://x.example", "name": "x"}]},
        {"thread": {"type": "create"}},
        {"messages": [{"role": "system", "content": [ADDED]}]},
    ],
)
def test_input_that_is_elsewhere_has_no_bound(fields: dict[str, Any]):
    assert facts(RESPONSES, **fields).ask.input_bound >= 10_000_000


def written(body: str) -> Facts:
    return read_facts(MESSAGES, f'{{"model": "m", {body}}}'.encode())


@pytest.mark.parametrize(
    "body",
    [
        r'"messages": [{"role": "user", "content": [{"source": {"file_i\u0064": "file_1"}}]}]',
        r'"messages": [{"role": "user", "content": [{"source": {"\u0074ype": "url"}}]}]',
        r'"system": "\\\u0041"',
        r'"system": "\\\\ \u005F"',
        r'"system": "\u0000\u0039"',
    ],
)
def test_where_letters_are_escaped_nothing_is_known_of_the_input(body: str):
    ask = written(body).ask
    assert (ask.input_bound >= 10_000_000, ask.may_cache_long) == (True, True)


@pytest.mark.parametrize(
    "body",
    [
        r'"system": "Gr\u00fc\u00dfe \u003cb\u003e \u0022 \u001b[0m \u007f \u0040 \u0060 \u005b \u007b \ud83d\ude00"',
        r'"system": "C:\\u0041 \\\\u0061"',
        r'"system": "{\"media_type\": \"application/pdf\", \"type\": \"url\", \"file_id\": \"x\"}"',
        r'"system": "u0041 \\ u0041"',
    ],
)
def test_escapes_that_are_usual_leave_the_bound_as_it_is(body: str):
    ask = written(body).ask
    assert (ask.input_bound < 10_000, ask.may_cache_long) == (True, False)


@pytest.mark.parametrize("slash", ["/", r"\/", r"\u002f", r"\u002F"])
def test_a_document_of_pages_has_no_bound_however_its_type_is_written(slash: str):
    source = f'{{"type": "base64", "media_type" : "application{slash}pdf", "data": "AAAA"}}'
    body = f'"messages": [{{"role": "user", "content": [{{"type": "document", "source": {source}}}]}}]'
    assert written(body).ask.input_bound >= 10_000_000
    assert written(body.replace("pdf", "json")).ask.input_bound < 10_000


SEARCH = {"type": "web_search_20260318", "name": "web_search"}


@pytest.mark.parametrize(
    ("dialect", "fields"),
    [
        (MESSAGES, {"messages": [{"role": "system", "content": [adding(SEARCH)]}]}),
        (
            MESSAGES,
            {
                "messages": [
                    {"role": "assistant", "content": [{"type": "compaction", "tool_changes": [adding(SEARCH)]}]}
                ]
            },
        ),
        (RESPONSES, {"input": [{"type": "additional_tools", "role": "developer", "tools": [SEARCH]}]}),
        (RESPONSES, {"input": [{"type": "tool_search_output", "call_id": "c", "tools": [SEARCH]}]}),
    ],
)
def test_a_tool_that_a_message_adds_is_a_tool(dialect: Dialect, fields: dict[str, Any]):
    assert facts(dialect, **fields).ask.extra == "the tool web_search_20260318"
    escaped = json.dumps({"model": "m", **fields})
    for word in ("tool_definition", "additional_tools", "tool_search_output"):
        escaped = escaped.replace(word, rf"\u00{ord(word[0]):02x}{word[1:]}")
    assert read_facts(dialect, escaped.encode()).ask.extra == "the tool web_search_20260318"
    plain = json.loads(json.dumps(fields).replace("web_search_20260318", "custom"))
    assert facts(dialect, **plain).ask.extra is None


@pytest.mark.parametrize(
    ("dialect", "fields", "passes"),
    [
        (MESSAGES, {}, 1),
        (MESSAGES, {"compaction": {"type": "summarize"}}, 2),
        (MESSAGES, {"context_management": {"edits": [{"type": "compact_20260112"}]}}, 2),
        (MESSAGES, {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, 1),
        (MESSAGES, {"context_management": {"edits": None}}, 1),
        (RESPONSES, {"context_management": [{"type": "compaction", "compact_threshold": 1000}], "input": "x"}, 2),
    ],
)
def test_a_conversation_that_may_be_compacted_may_be_read_twice(dialect: Dialect, fields: dict[str, Any], passes: int):
    assert facts(dialect, **fields).ask.passes == passes


def test_a_tool_with_a_parameter_of_such_a_name_is_still_bounded():
    schema = {
        "type": "object",
        "properties": {"file_id": {"type": "string"}, "previous_response_id": {"type": "string"}},
    }
    assert facts(MESSAGES, tools=[{"name": "x", "input_schema": schema}]).ask.input_bound < 10_000


def test_long_lived_cache_writes_are_noticed():
    block = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}
    assert facts(MESSAGES, system=[block]).ask.may_cache_long
    assert not facts(MESSAGES, system=[{**block, "cache_control": {"type": "ephemeral"}}]).ask.may_cache_long


def test_ordinary_tools_and_tiers_are_no_extra():
    tools = [
        {"name": "a", "input_schema": {}},
        {"type": "custom", "name": "b"},
        {"type": "bash_20250124", "name": "bash"},
    ]
    assert facts(MESSAGES, tools=tools, speed="standard", service_tier="auto").ask.extra is None
    functions = [{"type": "function", "function": {"name": "a"}}]
    assert facts(CHAT, tools=functions, service_tier="default", modalities=["text"], n=2).ask.extra is None
    assert facts(RESPONSES, tools=[{"type": "web_search"}]).ask.extra == "the tool web_search"
    assert facts(RESPONSES, tools=[{"type": "mcp", "server_url": "https://x.example"}]).ask.extra == "the tool mcp"
    assert facts(MESSAGES, tools=[{"type": "web_fetch_20260318"}]).ask.extra == "the tool web_fetch_20260318"
    assert facts(MESSAGES, mcp_servers=[{"type": "url", "url": "https://x.example"}]).ask.extra == "mcp_servers"


def test_only_chat_streams_have_to_be_asked_for_usage():
    assert facts(CHAT, stream=True).call.reports_stream_usage is False
    assert facts(CHAT, stream=True, stream_options={"include_usage": True}).call.reports_stream_usage
    assert facts(CHAT).call.reports_stream_usage
    assert facts(RESPONSES, stream=True).call.reports_stream_usage
    assert not facts(Dialect.OPENAI_EMBEDDINGS, stream=True).call.is_stream


TOOL_CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "x", "input": {}}]}
TOOL_RESULT = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "HEARTBEAT_OK"}]}


@pytest.mark.parametrize(
    ("dialect", "fields", "source", "is_turn"),
    [
        (MESSAGES, {"messages": user("hi")}, Source.PERSON, True),
        (MESSAGES, {"messages": [*user("hi"), TOOL_CALL, TOOL_RESULT]}, Source.PERSON, False),
        (MESSAGES, {"messages": [*user("Read HEARTBEAT.md now"), TOOL_CALL, TOOL_RESULT]}, Source.HEARTBEAT, False),
        (
            MESSAGES,
            {"messages": [*user("reply HEARTBEAT_OK"), {"role": "assistant", "content": "HEARTBEAT_OK"}, *user("hi")]},
            Source.PERSON,
            True,
        ),
        (MESSAGES, {"messages": user("[cron:a1 digest] Make the digest")}, Source.CRON, False),
        (MESSAGES, {"messages": user("Pre-compaction memory flush. Store now.")}, Source.COMPACTION, False),
        (
            MESSAGES,
            {"messages": user("<conversation>\nuser: hi\n</conversation>\nSummarise.")},
            Source.COMPACTION,
            False,
        ),
        (MESSAGES, {"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, Source.PERSON, True),
        (CHAT, {"messages": [*user("hi"), {"role": "system", "content": "x"}]}, Source.PERSON, True),
        (
            CHAT,
            {"messages": [*user("hi"), {"role": "tool", "tool_call_id": "t", "content": "1"}]},
            Source.PERSON,
            False,
        ),
        (RESPONSES, {"input": "hi"}, Source.PERSON, True),
        (
            RESPONSES,
            {"input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]},
            Source.PERSON,
            True,
        ),
        (RESPONSES, {"input": [*user("hi"), {"type": "function_call_output", "output": "1"}]}, Source.PERSON, False),
        (RESPONSES, {"input": [{"type": "function_call_output", "output": "1"}]}, Source.UNKNOWN, False),
        (MESSAGES, {"messages": []}, Source.UNKNOWN, False),
        (MESSAGES, {"messages": [3, None, "x", {"role": "user", "content": 5}]}, Source.UNKNOWN, False),
        (Dialect.OPENAI_EMBEDDINGS, {"input": "hi"}, Source.UNKNOWN, False),
    ],
)
def test_who_caused_a_call(dialect: Dialect, fields: dict[str, Any], source: Source, is_turn: bool):
    ask = facts(dialect, **fields).ask
    assert (ask.source, ask.is_turn) == (source, is_turn)
