"""Bytes of any kind for everything that reads bytes in the proxy: no crash, bounded memory, and however they are cut up
the result is the same. The same targets run under a coverage-guided fuzzer with `python -m bench fuzz`."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clawhaven.core.settings import Settings
from clawhaven.metering import Opening
from clawhaven.ports.upstream import Dialect
from clawhaven.providers.upstreams.anthropic import Anthropic
from clawhaven.providers.upstreams.openai import OpenAI
from clawhaven.providers.upstreams.sandbox import Sandbox
from clawhaven.proxy.messages import read_jobs, write_jobs
from clawhaven.proxy.request import BadBody, read_facts
from clawhaven.proxy.streams import EndHolder, UsageChunkFilter
from tests.proxy.recorded import ALL, DONE, STREAMS, USAGE_CHUNK

ANTHROPIC = Anthropic(Anthropic.Options(), Settings())
OPENAI = OpenAI(OpenAI.Options(), Settings())
SANDBOX = Sandbox(Sandbox.Options(), Settings())
CALLED = [dialect for dialect in Dialect if dialect is not Dialect.MODELS]
READERS: list[tuple[Any, Dialect]] = [
    *((ANTHROPIC, dialect) for dialect in sorted(ANTHROPIC.dialects())),
    *((OPENAI, dialect) for dialect in sorted(OPENAI.dialects())),
    (SANDBOX, Dialect.OPENAI_CHAT),
]
PIECES = [
    b"data: ", b"data:", b"event: ", b"\n", b"\r\n", b"\n\n", b"\r", b": ", b"[DONE]", b'"usage"', b'"choices": []',
    b'{"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}',
    b'{"type": "message_delta", "usage": {"output_tokens": 5}}',
    b'"iterations": [{"type": "compaction", "input_tokens": 9}],',
    b"message_stop", b"response.completed", b"\xff", b"\\",
    b'"', b"{", b"}", b"[", b"]", b"null", b"-1", b"1e999", b"99999999999999999999", b'"text": "', b"\\ud800", b"\x00",
    USAGE_CHUNK, DONE,
]  # fmt: skip

mess = st.lists(st.one_of(st.sampled_from(PIECES), st.binary(max_size=40)), max_size=30).map(b"".join)


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A vendor's real answer with something changed in it."""
    content = bytearray(draw(st.sampled_from(ALL)).content)
    for _ in range(draw(st.integers(0, 4))):
        place, length = draw(st.integers(0, len(content))), draw(st.integers(0, 30))
        content[place : place + length] = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=10)))
    return bytes(content)


streams = st.one_of(mess, bent())
cuts = st.lists(st.integers(0, 6000), max_size=15)


def cut_up(content: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(content), *(place % (len(content) + 1) for place in places)})
    return [content[start:end] for start, end in itertools.pairwise(edges)]


# ---- answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_stream", [True, False])
@pytest.mark.parametrize(("vendor", "dialect"), READERS, ids=lambda one: str(getattr(one, "name", one)))
@given(streams, cuts)
def test_usage_is_the_same_however_the_answer_arrives(
    vendor: Any, dialect: Dialect, is_stream: bool, content: bytes, places: list[int]
) -> None:
    whole, parts = vendor.reader(dialect, is_stream), vendor.reader(dialect, is_stream)
    whole.feed(content)
    for part in cut_up(content, places):
        parts.feed(part)
    assert parts.usage() == whole.usage()
    assert parts.output_estimate() == whole.output_estimate() >= 0
    if (usage := whole.usage()) is not None:
        names = [field.name for field in dataclasses.fields(usage) if field.name != "apart"]
        assert all(0 <= getattr(one, name) < 2**31 for one in (usage, *usage.apart) for name in names)
        assert all(one.apart == () for one in usage.apart)


@given(streams, cuts)
def test_the_end_holder_loses_nothing_and_keeps_the_end(content: bytes, places: list[int]) -> None:
    whole, parts = EndHolder(), EndHolder()
    at_once = whole.feed(content)
    bit_by_bit = b"".join(parts.feed(part) for part in cut_up(content, places))
    assert (parts.has_end, parts.has_error) == (whole.has_end, whole.has_error)
    assert content.startswith(bit_by_bit)
    out = at_once + whole.rest()
    assert bit_by_bit + parts.rest() == out
    assert out.startswith(content)
    assert out[len(content) :] in (b"", b"\n", b"\n\n"), "more was added than the end of an event"


@given(st.sampled_from(STREAMS), cuts)
def test_the_last_event_waits_wherever_the_stream_is_cut(one: Any, places: list[int]) -> None:
    holder = EndHolder()
    out = b"".join(holder.feed(part) for part in cut_up(one.content, places))
    last = one.content.rstrip().rpartition(b"\n\n")[2]
    assert holder.has_end
    assert b"\n" + last not in out
    assert out + holder.rest() == one.content


@given(streams, cuts)
def test_the_chunk_filter_takes_out_whole_events_only(content: bytes, places: list[int]) -> None:
    whole, parts = UsageChunkFilter(), UsageChunkFilter()
    expected = whole.feed(content) + whole.rest()
    assert b"".join([*(parts.feed(part) for part in cut_up(content, places)), parts.rest()]) == expected
    if b'"usage"' not in content:
        assert expected == content


# ---- requests -----------------------------------------------------------------------------------------------------

strange = st.sampled_from(
    [None, True, -1, 0, 2**31, 2**64, 10**40, 1e300, "", "x" * 5000, [], {}, [None], "\x00", "é" * 9]
)
texts = st.one_of(st.text(max_size=30), st.sampled_from(["HEARTBEAT_OK", "[cron: x]", "data:image/png;base64,AAAA"]))
blocks = st.recursive(
    st.one_of(
        strange,
        texts,
        st.fixed_dictionaries({"type": st.just("text"), "text": st.one_of(texts, strange)}),
        st.fixed_dictionaries({"type": st.just("image"), "source": st.one_of(strange, st.just({"data": "A"}))}),
        st.fixed_dictionaries({"type": st.just("image_url"), "image_url": st.one_of(strange, texts)}),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.fixed_dictionaries({"type": st.just("tool_result"), "content": inner}),
        st.dictionaries(st.sampled_from(["role", "content", "type", "output"]), inner, max_size=3),
    ),
    max_leaves=12,
)
turns = st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system", "tool", ""]), "content": blocks})
FIELDS = [
    "max_tokens", "max_completion_tokens", "max_output_tokens", "n", "stream", "stream_options", "tools", "speed",
    "service_tier", "inference_geo", "background", "modalities", "web_search_options", "container", "prompt",
    "previous_response_id", "conversation", "compaction", "context_management", "fallbacks", "thread", "mcp_servers",
]  # fmt: skip
bodies = st.builds(
    lambda fields, messages, given: json.dumps({"model": "m", **fields, "messages": messages, "input": given}).encode(),
    st.dictionaries(st.sampled_from(FIELDS), st.one_of(strange, blocks), max_size=3),
    st.one_of(st.none(), st.lists(st.one_of(turns, blocks), max_size=4)),
    st.one_of(st.none(), texts, st.lists(st.one_of(turns, blocks), max_size=4)),
)


@st.composite
def bent_bodies(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(bodies))
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(body)))
        body[place : place + draw(st.integers(0, 8))] = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=6)))
    return bytes(body)


@settings(max_examples=300)
@given(st.sampled_from(CALLED), st.one_of(bodies, bent_bodies(), mess), st.text(max_size=60))
def test_a_request_is_read_or_refused_and_can_be_told_to_the_counter(
    dialect: Dialect, body: bytes, traceparent: str
) -> None:
    try:
        facts = read_facts(dialect, body, traceparent)
    except BadBody:
        return
    assert facts.ask.input_bound >= len(body) // 3 - 40_000 * body.count(b"image")
    assert facts.ask.output_bound is None or facts.ask.output_bound >= 0
    opening = Opening(facts.ask, "hash", ["anthropic"])
    (told,) = read_jobs(write_jobs([(1, opening)])[4:])
    assert told == (1, opening)


@pytest.mark.parametrize("body", [
    b'{"model":"\xff"}',
    b'{"model":"m","messages":[{"role":"user","content":"\xff"}]}',
    b'{"model":"m","input":"\xff"}',
    b'{"model":"m","input":["\xed\xa0\x80"]}',
    b'{"model":"m","messages":[' + b"[" * 50_000,
    b'{"model":"m","input":' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"model":"m","max_tokens":1' + b"0" * 30 + b"}",
    b'{"model":"m","n":1' + b"0" * 30 + b"}",
])  # fmt: skip
def test_bodies_that_were_once_too_much(body: bytes) -> None:
    for dialect in CALLED:
        try:
            facts = read_facts(dialect, body)
        except BadBody:
            continue
        write_jobs([(1, Opening(facts.ask, "hash", []))])


# ---- memory -------------------------------------------------------------------------------------------------------


def peak(work: Callable[[], Any]) -> int:
    """The most memory that Python's objects took meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


LONG = b'data: {"type":"content_block_delta","delta":{"text":"' + b"word \\n" * 600_000
"""Four megabytes that are one event without an end."""


@pytest.mark.parametrize("ending", [b"", b'"}}\n\n'], ids=["without an end", "with one"])
@pytest.mark.parametrize(("vendor", "dialect"), READERS, ids=lambda one: str(getattr(one, "name", one)))
def test_a_reader_keeps_a_few_copies_of_an_event_at_most(vendor: Any, dialect: Dialect, ending: bytes) -> None:
    content = LONG + ending

    def read() -> None:
        reader = vendor.reader(dialect, True)
        for place in range(0, len(content), 65_536):
            reader.feed(content[place : place + 65_536])
        reader.usage()
        reader.output_estimate()

    assert peak(read) < 6 * len(content)


def test_reading_a_request_takes_memory_like_its_size() -> None:
    text = "word \n" * 300_000
    turns = [{"role": "user", "content": [{"type": "text", "text": text}, {"type": "image", "source": {}}]}]
    body = json.dumps({"model": "m", "messages": turns}).encode()
    assert peak(lambda: read_facts(Dialect.ANTHROPIC_MESSAGES, body)) < 6 * len(body)
