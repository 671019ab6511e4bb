"""What the proxy's processes say to each other arrives as it was said, however the bytes are cut."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clawhaven.core.errors import AppError, Forbidden, Invalid, PaymentRequired, RateLimited, Unauthorized
from clawhaven.metering import Ask, ClosedCall, Closing, OpenCall, Opening, PlanMode, Source, builtin_prices
from clawhaven.ports.upstream import Usage
from clawhaven.proxy.counter import CountingFailed
from clawhaven.proxy.messages import Frames, PriceMemory, read_jobs, read_results, write_jobs, write_results

PRICES = builtin_prices().current(datetime(2026, 11, 21, tzinfo=UTC))
words = st.text(max_size=20)
counts = st.integers(0, 2**60)
asks = st.builds(
    Ask,
    model=words,
    dialect=words,
    input_bound=counts,
    output_bound=st.none() | counts,
    source=st.sampled_from(Source),
    is_turn=st.booleans(),
    may_cache_long=st.booleans(),
    extra=st.none() | words,
    trace_id=st.none() | words,
    choices=st.integers(1, 128),
    passes=st.integers(1, 2),
)
usages = st.builds(Usage, input_tokens=counts, output_tokens=counts, is_estimated=st.booleans())
jobs = st.lists(
    st.tuples(
        counts,
        st.builds(Opening, ask=asks, key_hash=words, upstreams=st.lists(words, max_size=3))
        | st.builds(
            Closing,
            call_id=words,
            usage=st.none() | usages | st.builds(Usage, input_tokens=counts, apart=st.tuples(usages, usages)),
            http_status=st.none() | st.integers(100, 599),
            error=st.none() | words,
        ),
    ),
    max_size=5,
)


@given(sent=jobs, cuts=st.lists(st.integers(0, 5_000), max_size=6))
def test_jobs_arrive_whole_and_in_order(sent: list[tuple[int, Opening | Closing]], cuts: list[int]) -> None:
    data = write_jobs(sent) + write_jobs([]) + write_jobs(sent)
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    frames, got = Frames(), []
    for start, end in itertools.pairwise(places):
        got += [read_jobs(frame) for frame in frames.feed(data[start:end])]
    assert got == [sent, [], sent]


def test_results_arrive_as_they_are_and_a_price_is_told_once() -> None:
    price, other = PRICES[0], PRICES[1]
    opened = OpenCall("call_1", "ins_1", "acc_1", PlanMode.METERED, price, 7, None)
    again = OpenCall("call_2", "ins_1", "acc_1", PlanMode.OWN_KEY, price, 0, "v1.sealed")
    closed = ClosedCall("call_1", "acc_1", PlanMode.INCLUDED, 1, 2, 3, is_new=False)
    third = OpenCall("call_3", "ins_2", "acc_1", PlanMode.METERED, other, 7, None)
    writer, reader = PriceMemory(), PriceMemory()
    results = [opened, closed, again, third]
    messages = [writer.write(number, result) for number, result in enumerate(results)]
    assert [message.opened.price is not None for message in messages if message.opened] == [True, False, True]
    (frame,) = Frames().feed(write_results(messages))
    arrived = read_results(frame)
    assert [message.number for message in arrived] == [0, 1, 2, 3]
    assert [reader.read(message) for message in arrived] == results


@pytest.mark.parametrize(
    "refusal",
    [
        Unauthorized("Who?"),
        Forbidden("Paused.", code="instance_suspended"),
        Invalid("No such model.", code="unknown_model", field="model", models=["a", "b"]),
        RateLimited("Later.", code="in_flight", limit=8, retry_after=5),
        PaymentRequired("Too little.", needed_micros=5, available_micros=-1, balance_micros=0),
    ],
)
def test_a_refusal_stays_what_it_is(refusal: AppError) -> None:
    (frame,) = Frames().feed(write_results([PriceMemory().write(4, refusal)]))
    got = PriceMemory().read(read_results(frame)[0])
    assert type(got) is type(refusal)
    assert isinstance(got, AppError)
    assert got.as_json() == refusal.as_json()


def test_a_failure_of_the_database_is_no_refusal() -> None:
    (frame,) = Frames().feed(write_results([PriceMemory().write(1, CountingFailed("OperationalError"))]))
    got = PriceMemory().read(read_results(frame)[0])
    assert isinstance(got, CountingFailed)
    assert str(got) == "OperationalError"
