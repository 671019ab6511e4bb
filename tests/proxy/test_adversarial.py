"""A vendor that cuts, drips, lies and babbles: what is billed is what it said it served, or marked as an estimate."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.proxy.conftest import KEY, House
from tests.proxy.hostile import Got, ask, assert_books, assert_error, assert_exact, assert_told, judge, places
from tests.proxy.rawvendor import RawVendor, Wire, chunk, chunked, stream_head, whole
from tests.proxy.recorded import (
    ALL,
    CHAT_CHUNKS,
    CHAT_FIGURES,
    CLAUDE_EVENTS,
    CLAUDE_FIGURES,
    DONE,
    EVENTS,
    JSON,
    STREAMS,
    USAGE_CHUNK,
    Recorded,
    data,
    figures,
)
from tests.proxy.wire import sse

MESSAGES, MESSAGE_STREAM, CHAT, CHAT_STREAM, _, RESPONSE, RESPONSE_STREAM, EMBEDDINGS = ALL
NAMES = [one.name for one in ALL]


@pytest.fixture
def vendor() -> Iterator[RawVendor]:
    server = RawVendor()
    server.start()
    yield server
    server.stop()


def says(*parts: bytes, ending: str = "") -> Any:
    """A script: send these, then `finish`, `abort`, or leave the connection open."""

    async def script(wire: Wire) -> None:
        for part in parts:
            await wire.send(part)
        if ending:
            await getattr(wire, ending)()

    return script


def head(one: Recorded, **more: Any) -> bytes:
    return stream_head(kind=one.kind, **more)


# ---- cut anywhere -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["finish", "abort"])
@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_an_answer_cut_anywhere(house: House, vendor: RawVendor, one: Recorded, ending: str) -> None:
    with httpx2.Client() as client:
        for place in places(one, 24):
            vendor.script = says(head(one), chunk(one.content[:place]) if place else b"", ending=ending)
            judge(one, ask(house, one, client))
        for place in places(one, 6, seed=7):
            vendor.script = says(head(one, is_chunked=False), one.content[:place], ending="finish")
            judge(one, ask(house, one, client))
        for place in places(one, 6, seed=9)[:-1]:
            vendor.script = says(whole(one.content, kind=one.kind)[: place - len(one.content)], ending=ending)
            judge(one, ask(house, one, client))
    assert_books(house)


def test_an_answer_cut_in_its_head_is_overload_and_free(house: House, vendor: RawVendor) -> None:
    first = head(MESSAGE_STREAM)
    for place in (0, 5, 12, len(first) // 2, len(first) - 2):
        for ending in ("finish", "abort"):
            vendor.script = says(first[:place], ending=ending)
            got = ask(house, MESSAGE_STREAM)
            assert (got.status, got.row.price_micros) == (529, 0)
            assert_error(MESSAGE_STREAM, json.loads(got.content), 529)
    assert_books(house)


@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_an_answer_in_single_bytes(house: House, vendor: RawVendor, one: Recorded) -> None:
    async def script(wire: Wire) -> None:
        if one.is_stream:
            await wire.send(head(one))
            for place in range(len(one.content)):
                await wire.send(chunk(one.content[place : place + 1]))
            await wire.send(chunk(b""))
        else:
            await wire.drip(whole(one.content, kind=one.kind))

    vendor.script = script
    assert_exact(one, ask(house, one))
    assert_books(house)


def test_a_slow_drip_is_not_silence(house: House, vendor: RawVendor) -> None:
    async def script(wire: Wire) -> None:
        await wire.send(head(MESSAGE_STREAM))
        for event in MESSAGE_STREAM.content.split(b"\n\n")[:-1]:
            await wire.send(chunk(event))
            await asyncio.sleep(0.12)  # all together longer than the silence that is allowed
            await wire.send(chunk(b"\n\n"))
        await wire.send(chunk(b""))

    vendor.script = script
    assert_exact(MESSAGE_STREAM, ask(house, MESSAGE_STREAM))


# ---- usage that is missing, doubled, nonsense ----------------------------------------------------------------------


def stream_of(one: Recorded, content: bytes) -> Any:
    return says(head(one), chunked(content))


def ask_for(house: House, vendor: RawVendor, one: Recorded, content: bytes) -> Got:
    vendor.script = stream_of(one, content) if one.is_stream else says(whole(content))
    return ask(house, one)


@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_an_answer_without_usage_is_estimated(house: House, vendor: RawVendor, one: Recorded) -> None:
    got = ask_for(house, vendor, one, one.content.replace(b'"usage"', b'"used"'))
    assert got.status == 200
    assert got.row.is_estimated
    assert got.row.input_tokens > 0
    assert got.row.output_tokens > 0 or one is EMBEDDINGS
    assert_books(house)


@pytest.mark.parametrize("missing", ["message_start", "message_delta"])
def test_half_of_the_usage_is_not_taken_for_all_of_it(house: House, vendor: RawVendor, missing: str) -> None:
    ending = sse("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 77})
    events = [
        event.replace(b'"usage"', b'"used"') if f"event: {missing}\n".encode() in event else event
        for event in [*CLAUDE_EVENTS[:-2], ending, CLAUDE_EVENTS[-1]]
    ]
    row = ask_for(house, vendor, MESSAGE_STREAM, b"".join(events)).row
    assert row.is_estimated
    assert row.input_tokens > 0
    assert row.output_tokens >= 15  # about 60 bytes of text, thought and arguments went out


@pytest.mark.parametrize("part", ["input_tokens", "output_tokens"])
def test_a_report_that_lacks_a_figure_is_an_estimate(house: House, vendor: RawVendor, part: str) -> None:
    row = ask_for(house, vendor, MESSAGES, MESSAGES.content.replace(f'"{part}"'.encode(), b'"other"')).row
    assert row.is_estimated
    assert min(row.input_tokens, row.output_tokens) > 0
    short = CHAT.content.replace(b'"completion_tokens"', b'"other"')
    assert ask_for(house, vendor, CHAT, short).row.is_estimated


@pytest.mark.parametrize("figure", ["-1", "1e3", "7.5", '"12"', "null", "true", "1" + "0" * 18, "1" + "0" * 40, "[]"])
def test_a_figure_that_cannot_be_is_an_estimate(house: House, vendor: RawVendor, figure: str) -> None:
    for one in (MESSAGES, CHAT, MESSAGE_STREAM, RESPONSE_STREAM):
        content = one.content
        for known in (b'"output_tokens": 77', b'"completion_tokens": 42', b'"output_tokens": 42'):
            content = content.replace(known, known.partition(b":")[0] + b": " + figure.encode())
        got = ask_for(house, vendor, one, content)
        assert (got.status, got.content) == (200, content)
        assert got.row.is_estimated
        assert 0 < got.row.output_tokens < 1000
    assert_books(house)


def test_usage_that_is_sent_twice_is_billed_once(house: House, vendor: RawVendor) -> None:
    twice = [event for event in CLAUDE_EVENTS for _ in range(1 if b"message_stop" in event else 2)]
    assert figures(ask_for(house, vendor, MESSAGE_STREAM, b"".join(twice)).row) == CLAUDE_FIGURES
    chunks = b"".join([*CHAT_CHUNKS, USAGE_CHUNK, USAGE_CHUNK, DONE])
    got = ask_for(house, vendor, CHAT_STREAM, chunks)
    assert (got.content, figures(got.row)) == (CHAT_STREAM.visible, CHAT_FIGURES)
    completed = b"".join([RESPONSE_STREAM.content, RESPONSE_STREAM.content.split(b"\n\n")[-2], b"\n\n"])
    assert figures(ask_for(house, vendor, RESPONSE_STREAM, completed).row) == CHAT_FIGURES
    assert_books(house)


def test_usage_that_grows_with_every_chunk_counts_as_it_was_last(house: House, vendor: RawVendor) -> None:
    """As servers do that report usage all along: every chunk carries it, also those with choices."""
    chunks = [json.loads(event.split(b": ", 1)[1]) for event in CHAT_CHUNKS]
    for number, value in enumerate(chunks, 1):
        value["usage"] = {"prompt_tokens": 100, "completion_tokens": number, "total_tokens": 100 + number}
    content = b"".join(data(value) for value in chunks) + DONE
    got = ask_for(house, vendor, CHAT_STREAM, content)
    assert got.content == content
    assert (got.row.input_tokens, got.row.output_tokens, got.row.is_estimated) == (100, len(chunks), False)


def test_usage_after_the_end_counts(house: House, vendor: RawVendor) -> None:
    got = ask_for(house, vendor, CHAT_STREAM, b"".join([*CHAT_CHUNKS, DONE, USAGE_CHUNK]))
    assert (figures(got.row), got.row.is_estimated) == (CHAT_FIGURES, False)


# ---- streams that are not as they should be ------------------------------------------------------------------------

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
JUNK = [
    b"\n\n\n",
    b': keep-alive "usage"\n\n',
    b"data\n\n",
    b"data: {\n\n",
    b'data: {"usage": {"output_tokens": \n\n',
    b'data: {"type":"message_delta","usage":[]}\n\n',
    b"event: message_delta\n\n",
    b"id: 7\nretry: 1\n\n",
    b"\x00\xff\xfe\n\n",
    b"data: " + b"[" * 3000 + b"\n\n",
    b'data: "usage"\n\n',
]


@pytest.mark.parametrize("one", STREAMS, ids=lambda one: one.name)
def test_junk_between_events_passes_and_changes_no_figure(house: House, vendor: RawVendor, one: Recorded) -> None:
    for junk in JUNK:
        events = [event + b"\n\n" for event in one.content.split(b"\n\n")[:-1]]
        content = b"".join(junk + event for event in events)
        got = ask_for(house, vendor, one, content)
        assert got.status == 200
        assert (figures(got.row), got.row.is_estimated) == (one.figures, False), junk
        if one.visible == one.content:
            assert got.content == content
    assert_books(house)


@pytest.mark.parametrize("one", STREAMS, ids=lambda one: one.name)
def test_a_byte_order_mark(house: House, vendor: RawVendor, one: Recorded) -> None:
    got = ask_for(house, vendor, one, BYTE_ORDER_MARK + one.content)
    assert got.content == BYTE_ORDER_MARK + one.visible
    assert (figures(got.row), got.row.is_estimated) == (one.figures, False)


@pytest.mark.parametrize("one", STREAMS, ids=lambda one: one.name)
def test_windows_line_ends(house: House, vendor: RawVendor, one: Recorded) -> None:
    got = ask_for(house, vendor, one, one.content.replace(b"\n", b"\r\n"))
    assert got.content == one.visible.replace(b"\n", b"\r\n")
    assert (figures(got.row), got.row.is_estimated) == (one.figures, False)


def test_an_error_after_the_start_passes_as_it_is(house: House, vendor: RawVendor) -> None:
    error = sse("error", error={"type": "overloaded_error", "message": "Overloaded"})
    for number in range(1, len(CLAUDE_EVENTS) - 1):
        content = b"".join([*CLAUDE_EVENTS[:number], error])
        got = ask_for(house, vendor, MESSAGE_STREAM, content)
        assert got.content == content
        assert got.row.is_estimated or figures(got.row) == CLAUDE_FIGURES
    assert_books(house)


def test_a_stream_that_was_announced_as_json_is_estimated_at_worst(house: House, vendor: RawVendor) -> None:
    for one in ALL:
        kind = JSON if one.is_stream else EVENTS
        vendor.script = says(whole(one.content, kind=kind))
        got = ask(house, one)
        assert got.status == 200
        assert got.row.is_estimated or figures(got.row) == one.figures
    assert_books(house)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("one", ALL, ids=NAMES)
def test_compressed_though_nobody_asked(house: House, vendor: RawVendor, one: Recorded, coding: str) -> None:
    packed = gzip.compress(one.content) if coding == "gzip" else zlib.compress(one.content)
    vendor.script = says(whole(packed, f"content-encoding: {coding}", kind=one.kind))
    got = ask(house, one)
    assert vendor.requests[-1].headers["accept-encoding"] == "identity"
    if got.status == 200:
        assert got.content in (one.visible, one.content)
        assert got.row.is_estimated or figures(got.row) == one.figures
    else:
        assert_error(one, json.loads(got.content), got.status)
        assert got.row.price_micros == 0
    assert_books(house)


# ---- streams without an end ------------------------------------------------------------------------------------------


def test_a_stream_that_never_ends_ends_for_a_client_that_leaves(
    house: House, vendor: RawVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = sse("content_block_delta", index=1, delta={"type": "text_delta", "text": "x" * 400})
    is_cut = asyncio.Event()

    async def script(wire: Wire) -> None:
        await wire.send(head(MESSAGE_STREAM) + chunk(b"".join(CLAUDE_EVENTS[:2])))
        try:
            while True:
                await wire.send(chunk(text))
                await asyncio.sleep(0.01)
        except OSError:
            is_cut.set()

    monkeypatch.setattr("clawhaven.proxy.exchange.GONE_CLIENT_SECONDS", 0.2)
    vendor.script = script
    url, headers = house.url + MESSAGE_STREAM.path, {"x-api-key": KEY}
    with httpx2.stream("POST", url, json=MESSAGE_STREAM.body, headers=headers, timeout=30) as answer:
        assert next(answer.iter_raw())
    row = house.last_call()
    assert row.is_estimated
    assert row.output_tokens >= 100
    assert_books(house)


def test_silence_after_some_of_it_is_told(house: House, vendor: RawVendor) -> None:
    async def script(wire: Wire) -> None:
        await wire.send(head(one) + chunk(one.content[: len(one.content) // 2]))
        await asyncio.sleep(30)

    vendor.script = script
    for one in STREAMS:
        got = ask(house, one)
        assert_told(one, got.content)
        assert got.row.is_estimated
    assert_books(house)


def test_silence_in_the_middle_of_a_whole_answer_is_told_and_free(house: House, vendor: RawVendor) -> None:
    async def script(wire: Wire) -> None:
        await wire.send(whole(MESSAGES.content)[:-20])
        await asyncio.sleep(30)

    vendor.script = script
    got = ask(house, MESSAGES)
    assert (got.status, got.row.price_micros) == (504, 0)
    assert json.loads(got.content)["error"]["type"] == "timeout_error"
    assert_books(house)
