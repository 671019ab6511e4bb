"""Filters of streams, wherever the chunks break."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clawhaven.ports.upstream import Dialect
from clawhaven.proxy.streams import EndHolder, UsageChunkFilter, chunk_filter

TEXT = b"event: content_block_delta\n" + (
    b'data: {"type":"content_block_delta","delta":{"text":"\\ndata: [DONE] \\"type\\": \\"message_stop\\""}}\n\n'
)
ENDS = [
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    b'data: {"type": "message_stop"}\n\n',
    b"data: [DONE]\n\n",
    b"data:[DONE]\n\n",
    b'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{}}}\n\n',
    b'event: response.failed\ndata: {"response":{},"type":"response.failed"}\n\n',
]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(st.sampled_from(ENDS), st.lists(st.integers(0, 500), max_size=12))
@example(ENDS[1], [281])
def test_the_last_event_is_never_let_through_whole(end: bytes, cuts: list[int]):
    holder = EndHolder()
    sent = b"".join(holder.feed(piece) for piece in pieces(TEXT + end, cuts))
    assert holder.has_end
    assert sent.startswith(TEXT)
    assert not sent.endswith(end)
    held = holder.rest()
    assert sent + held == TEXT + end
    assert held.endswith(b"\n\n")
    assert holder.rest() == b""


def test_what_only_looks_like_an_end_inside_text_passes_at_once():
    holder = EndHolder()
    assert holder.feed(TEXT) == TEXT
    assert not holder.has_end


@pytest.mark.parametrize(
    "event", [b"event: error\ndata: {}\n\n", b'data: {"type":"error"}\n\n', b'data: {"error":{"message":"x"}}\n\n']
)
def test_errors_in_a_stream_are_noticed(event: bytes):
    holder = EndHolder()
    assert holder.feed(TEXT) == TEXT
    assert not holder.has_error
    holder.feed(event)
    assert holder.has_error


FIRST = b'data: {"choices":[{"delta":{"content":"\\"usage\\" \\"choices\\":[]"}}],"usage":null}\n\n'
USAGE = b'data: {"id":"x","choices": [],"usage":{"prompt_tokens":1}}\n\n'
DONE = b"data: [DONE]\n\n"


@given(st.lists(st.integers(0, 500), max_size=12))
def test_only_the_usage_chunk_is_dropped(cuts: list[int]):
    dropper = UsageChunkFilter()
    out = b"".join(dropper.feed(piece) for piece in pieces(FIRST + USAGE + DONE, cuts)) + dropper.rest()
    assert out == FIRST + DONE


def test_windows_line_ends_and_an_unfinished_event():
    dropper = UsageChunkFilter()
    assert dropper.feed(USAGE.replace(b"\n", b"\r\n") + b"data: half") == b""
    assert dropper.rest() == b"data: half"


def test_other_streams_are_not_filtered():
    assert chunk_filter(Dialect.OPENAI_CHAT, True).feed(USAGE) == USAGE
    assert chunk_filter(Dialect.ANTHROPIC_MESSAGES, False).feed(USAGE) == USAGE
