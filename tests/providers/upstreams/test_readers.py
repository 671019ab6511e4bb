"""Usage readers: the vendors' own formats, however the bytes are cut, and anything else without an exception."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.settings import Settings
from clawhaven.ports.errors import ProviderError
from clawhaven.ports.upstream import Call, Dialect, Upstream, Usage, UsageReader
from clawhaven.providers.upstreams.anthropic import Anthropic
from clawhaven.providers.upstreams.openai import OpenAI, ask_for_usage
from clawhaven.providers.upstreams.reading import MAX_VECTORS_BYTES, EventLines
from clawhaven.providers.upstreams.sandbox import Sandbox, last_message, plain

MESSAGES, CHAT, RESPONSES = Dialect.ANTHROPIC_MESSAGES, Dialect.OPENAI_CHAT, Dialect.OPENAI_RESPONSES


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


START = event(
    type="message_start",
    message={
        "usage": {"input_tokens": 9, "cache_read_input_tokens": 8, "cache_creation_input_tokens": 7, "output_tokens": 1}
    },
)
GOOD = {
    MESSAGES: (
        START
        + event(type="content_block_delta", delta={"type": "text_delta", "text": "abcd" * 3})
        + event(type="message_delta", usage={"output_tokens": 5})
        + event(type="message_delta", usage={"output_tokens": 12, "output_tokens_details": {"thinking_tokens": 4}}),
        Usage(9, 12, 8, 7, 0, 4),
    ),
    CHAT: (
        event(choices=[{"delta": {"content": "abcd" * 3}}], usage=None)
        + event(
            choices=[],
            usage={
                "prompt_tokens": 100,
                "completion_tokens": 12,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 30},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
        )
        + b"data: [DONE]\n\n",
        Usage(10, 12, 60, 30, 0, 3),
    ),
    RESPONSES: (
        event(type="response.output_text.delta", delta="abcd" * 3)
        + event(
            type="response.completed",
            response={
                "usage": {
                    "input_tokens": 100,
                    "input_tokens_details": {
                        "cached_tokens": 50,
                        "cache_write_tokens": 40,
                        "cache_write_tokens_details": {"ttl_30m_tokens": 25, "ttl_12h_tokens": 15},
                    },
                    "output_tokens": 12,
                    "output_tokens_details": {"reasoning_tokens": 3},
                }
            },
        ),
        Usage(10, 12, 50, 25, 15, 3),
    ),
}


def vendor_for(dialect: Dialect) -> Upstream:
    if dialect is MESSAGES:
        return Anthropic(Anthropic.Options(), Settings())
    return OpenAI(OpenAI.Options(), Settings())


def fed(reader: UsageReader, *chunks: bytes) -> UsageReader:
    for chunk in chunks:
        reader.feed(chunk)
    return reader


@pytest.mark.parametrize("dialect", list(GOOD))
def test_streams_are_read_at_every_way_of_cutting_them(dialect: Dialect):
    data, wanted = GOOD[dialect]
    for size in (1, 2, 7, 64, len(data)):
        chunks = [data[start : start + size] for start in range(0, len(data), size)]
        reader = fed(vendor_for(dialect).reader(dialect, True), *chunks)
        assert reader.usage() == wanted
        assert reader.output_estimate() == 3


@pytest.mark.parametrize("dialect", list(GOOD))
def test_a_stream_that_reported_nothing_yet_gives_an_estimate_only(dialect: Dialect):
    text = GOOD[dialect][0].replace(START, b"").split(b"\n\n")[0] + b"\n\n"
    reader = fed(vendor_for(dialect).reader(dialect, True), text)
    assert reader.usage() is None
    assert reader.output_estimate() == 3


def test_whole_answers():
    body = {"content": [{"type": "text", "text": "abcd"}], "usage": {"input_tokens": 3, "output_tokens": 2}}
    assert fed(vendor_for(MESSAGES).reader(MESSAGES, False), json.dumps(body).encode()).usage() == Usage(3, 2)
    chat = {"usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}
    reader = vendor_for(CHAT).reader(CHAT, False)
    assert fed(reader, json.dumps(chat).encode()[:20]).usage() is None
    assert fed(reader, json.dumps(chat).encode()[20:]).usage() == Usage(3, 2)
    embedded = {"usage": {"prompt_tokens": 8, "total_tokens": 8}}
    embeddings = vendor_for(CHAT).reader(Dialect.OPENAI_EMBEDDINGS, False)
    assert fed(embeddings, json.dumps(embedded).encode()).usage() == Usage(8, 0)


def test_one_hour_cache_writes_are_told_apart_and_unknown_ones_count_as_short():
    usage = {
        "input_tokens": 1,
        "output_tokens": 1,
        "cache_creation_input_tokens": 500,
        "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 300},
    }
    found = fed(vendor_for(MESSAGES).reader(MESSAGES, False), json.dumps({"usage": usage}).encode()).usage()
    assert found == Usage(1, 1, 0, 200, 300)


def test_spoken_tokens_are_told_apart():
    usage = {"prompt_tokens": 90, "completion_tokens": 30, "prompt_tokens_details": {"audio_tokens": 60}}
    body = json.dumps({"usage": {**usage, "completion_tokens_details": {"audio_tokens": 20}}}).encode()
    read = fed(vendor_for(Dialect.OPENAI_CHAT).reader(Dialect.OPENAI_CHAT, False), body).usage()
    assert read == Usage(90, 30, input_audio_tokens=60, output_audio_tokens=20)


def test_cache_figures_larger_than_the_input_do_not_go_below_zero():
    usage = {"prompt_tokens": 5, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 9}}
    assert fed(vendor_for(CHAT).reader(CHAT, False), json.dumps({"usage": usage}).encode()).usage() == Usage(0, 1, 5)


def test_a_message_stream_that_did_not_say_its_end_is_an_estimate():
    text = event(type="content_block_delta", delta={"type": "text_delta", "text": "abcd" * 30})
    reader = fed(vendor_for(MESSAGES).reader(MESSAGES, True), START + text)
    assert reader.usage() == Usage(9, 30, 8, 7, is_estimated=True)
    reader.feed(event(type="message_delta", usage={"output_tokens": 12}))
    assert reader.usage() == Usage(9, 12, 8, 7)


@pytest.mark.parametrize("dialect", [MESSAGES, CHAT])
def test_a_report_without_output_is_an_estimate_and_one_without_input_is_none(dialect: Dialect):
    names = ("input_tokens", "output_tokens") if dialect is MESSAGES else ("prompt_tokens", "completion_tokens")
    body = {"content": [{"type": "text", "text": "abcdefgh"}]}

    def read(**usage: int) -> Usage | None:
        return fed(vendor_for(dialect).reader(dialect, False), json.dumps({**body, "usage": usage}).encode()).usage()

    assert read(**{names[0]: 5}) == Usage(5, 2, is_estimated=True)
    assert read(**{names[1]: 5}) is None
    assert read(**{names[0]: 5, names[1]: 0}) == Usage(5, 0)


def test_a_figure_that_no_column_holds_is_no_figure():
    for figure in (10**9 + 1, 10**30):
        usage = {"input_tokens": 5, "output_tokens": figure}
        assert fed(vendor_for(MESSAGES).reader(MESSAGES, False), json.dumps({"usage": usage}).encode()).usage() is None


@pytest.mark.parametrize("dialect", list(GOOD))
def test_letters_that_are_none_do_not_disturb_a_reader(dialect: Dialect):
    data, wanted = GOOD[dialect]
    bad = b'data: {"type":"\xff","usage":{},"response":{"usage":null}}\n\n'
    assert fed(vendor_for(dialect).reader(dialect, True), bad + data + bad).usage() == wanted


def test_estimating_a_long_text_takes_no_memory_of_its_own():
    reader = vendor_for(MESSAGES).reader(MESSAGES, False)
    reader.feed(b'{"content":[{"type":"text","text":"' + b"line\\n" * 500_000 + b'"}]}')
    tracemalloc.start()
    try:
        assert reader.output_estimate() == 500_000 * 6 // 4
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("dialect", [*GOOD, Dialect.OPENAI_EMBEDDINGS])
@pytest.mark.parametrize("is_stream", [True, False])
@given(
    st.lists(
        st.one_of(st.binary(max_size=60), st.sampled_from([b'data: {"usage":', b"\n\n", b'"usage"', START])), max_size=8
    )
)
def test_nothing_makes_a_reader_raise(dialect: Dialect, is_stream: bool, chunks: list[bytes]):
    reader = fed(vendor_for(dialect).reader(dialect, is_stream), *chunks)
    reader.usage()
    assert reader.output_estimate() >= 0


@pytest.mark.parametrize("size", [1, 1_000, 65_536, 10**9])
@pytest.mark.parametrize("is_last", [True, False])
def test_the_usage_of_an_answer_of_numbers_is_found_at_both_ends_of_any_length(is_last: bool, size: int):
    length = 3_000 if size == 1 else MAX_VECTORS_BYTES
    numbers = {"data": [{"embedding": "AAAA" * length, "index": 0}]}
    usage = {"usage": {"prompt_tokens": 8, "prompt_tokens_details": {"cached_tokens": 3}, "total_tokens": 8}}
    body = json.dumps({**numbers, **usage} if is_last else {**usage, **numbers}).encode()
    reader = vendor_for(CHAT).reader(Dialect.OPENAI_EMBEDDINGS, False)
    for start in range(0, len(body) - 3, size):
        reader.feed(body[start : min(start + size, len(body) - 3)])
    assert reader.usage() is None
    tracemalloc.start()
    try:
        reader.feed(body[-3:])
        assert reader.usage() == Usage(5, 0, 3)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_an_endless_line_is_skipped_in_bounded_memory():
    lines = EventLines(limit=100)
    assert lines.feed(b"data: " + b"x" * 80) == []
    assert lines.feed(b"x" * 80) == []
    assert lines.feed(b"x" * 80 + b"\ndata: next\n") == [b"next"]
    assert lines.feed(b"data: " + b"x" * 100 + b"\ndata: after\n") == [b"after"]


def test_asking_for_usage_changes_nothing_else():
    body = b'{"model":"m","stream_options":{"include_obfuscation":false},"temperature":1.0,"x":"\\u00e9"}'
    asked = ask_for_usage(body)
    assert json.loads(asked)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert b'"temperature":1.0' in asked
    assert b"\\u00e9" in asked


@pytest.mark.parametrize(
    "base", ["https://eu.example", "https://eu.example/", "https://eu.example/v1", "https://eu.example/v1/"]
)
def test_the_address_may_end_in_v1_or_not(base: str):
    call = Call("m", False, None, True)
    openai = OpenAI(OpenAI.Options(openai_api_url=base), Settings())
    assert (
        openai.request(CHAT, "/v1/chat/completions", {}, b"{}", "k", call).url
        == "https://eu.example/v1/chat/completions"
    )
    anthropic = Anthropic(Anthropic.Options(anthropic_api_url=base), Settings())
    sent = anthropic.request(MESSAGES, "/v1/messages", {}, b"{}", "k", call)
    assert sent.url == "https://eu.example/v1/messages"
    assert sent.headers["anthropic-version"] == "2023-06-01"


def test_without_a_key_nothing_is_sent():
    call = Call("m", False, None, True)
    for dialect in (MESSAGES, CHAT):
        with pytest.raises(ProviderError) as missing:
            vendor_for(dialect).request(dialect, "/x", {}, b"{}", "", call)
        assert missing.value.code == "no_api_key"
    with pytest.raises(ProviderError):
        Sandbox(Sandbox.Options(), Settings()).request(CHAT, "/x", {}, b"{}", "", call)


OPENCLAW = """[Fri 2026-11-20 10:00 UTC] Conversation info: ⟦openclaw:ctx⟧
```json
{"sender": "Ada", "text": "not this"}
```

Sender ⟦openclaw:ctx⟧
name: Ada

What is for dinner?"""


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (OPENCLAW, "What is for dinner?"),
        ("[Fri 2026-11-20 10:00 UTC] hello", "hello"),
        ("[Telegram Ada id:7 2026-11-20 10:00 UTC] hello", "hello"),
        ("[draft] keep the brackets", "[draft] keep the brackets"),
        ("  two\nlines ", "two\nlines"),
    ],
)
def test_the_sandbox_model_repeats_the_person_and_not_the_envelope(text: str, wanted: str):
    assert plain(text) == wanted


def test_the_last_message_is_the_persons():
    turns = [
        {"role": "user", "content": "first"},
        {"role": "user", "content": [{"type": "text", "text": "second"}]},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": [{"type": "tool_result", "content": "no"}]},
    ]
    assert last_message({"messages": turns}) == "second"
    assert last_message({"input": "only"}) == "only"
    assert last_message({"messages": []}) == ""
