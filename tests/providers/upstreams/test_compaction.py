"""Anthropic's `usage.iterations`: a compaction is billed on top of what stands above it, and once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types.beta import BetaMessageDeltaUsage, BetaUsage

from clawhaven.core.settings import Settings
from clawhaven.ports.upstream import Dialect, Usage
from clawhaven.providers.upstreams.anthropic import MOST_PASSES, Anthropic
from clawhaven.providers.upstreams.reading import MOST_TOKENS

VENDOR = Anthropic(Anthropic.Options(), Settings())
SPLIT = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
CACHED = {"cache_creation_input_tokens": 7, "cache_read_input_tokens": 5, "cache_creation": SPLIT}
COMPACTION = {"type": "compaction", "input_tokens": 180_000, "output_tokens": 3_500, **CACHED}
MESSAGE = {"type": "message", "input_tokens": 23_000, "output_tokens": 1_000, "model": "claude-sonnet-5-5"}
PLAIN = {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
COMPACTED = Usage(180_000, 3_500, 5, 3, 4)


def of_body(**usage: Any) -> Usage | None:
    reader = VENDOR.reader(Dialect.ANTHROPIC_MESSAGES, False)
    reader.feed(json.dumps({"usage": usage}).encode())
    return reader.usage()


def of_stream(*usages: dict[str, Any]) -> Usage | None:
    """The first in `message_start`, the others in a `message_delta` each."""
    reader = VENDOR.reader(Dialect.ANTHROPIC_MESSAGES, True)
    begun: dict[str, Any] = {"type": "message_start", "message": {"usage": usages[0]}}
    for event in [begun, *({"type": "message_delta", "usage": usage} for usage in usages[1:])]:
        reader.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    return reader.usage()


def test_a_compaction_is_added_to_what_stands_above_it() -> None:
    said = {"input_tokens": 23_000, "output_tokens": 1_000, "iterations": [COMPACTION, {**MESSAGE, **PLAIN}]}
    assert BetaUsage.model_validate({**PLAIN, **said}).iterations is not None, "the vendor's own shape"
    wanted = Usage(203_000, 4_500, 5, 3, 4, apart=(COMPACTED,))
    assert of_body(**said) == wanted
    assert of_stream(said, said, said) == wanted, "a report that is repeated is not added up"
    assert of_stream({"input_tokens": 23_000, "output_tokens": 1}, {"output_tokens": 1_000}, said) == wanted


def test_the_end_of_a_stream_tells_of_its_compaction() -> None:
    begun = {"input_tokens": 23_000, "output_tokens": 1, "iterations": []}
    ended = {"output_tokens": 1_000, "iterations": [COMPACTION, MESSAGE]}
    assert BetaMessageDeltaUsage.model_validate(ended | {"iterations": [COMPACTION, {**MESSAGE, **PLAIN}]})
    assert of_stream(begun, ended) == Usage(203_000, 4_500, 5, 3, 4, apart=(COMPACTED,))
    assert of_stream(begun) == Usage(23_000, 1, is_estimated=True)


def test_a_compaction_on_demand_is_all_there_is() -> None:
    said = {"input_tokens": 0, "output_tokens": 0, "iterations": [COMPACTION]}
    assert of_body(**said) == of_stream(said, said) == Usage(180_000, 3_500, 5, 3, 4, apart=(COMPACTED,))


def test_passes_that_make_up_the_figures_are_told_apart() -> None:
    said = {"input_tokens": 46_000, "output_tokens": 2_000, "iterations": [MESSAGE, COMPACTION, MESSAGE]}
    assert of_body(**said) == Usage(226_000, 5_500, 5, 3, 4, apart=(COMPACTED, Usage(23_000, 1_000)))
    assert of_body(**{**said, "iterations": [MESSAGE, MESSAGE]}) == Usage(46_000, 2_000, apart=(Usage(23_000, 1_000),))
    assert of_body(**{**said, "iterations": [MESSAGE]}) == Usage(46_000, 2_000), "they do not add up"
    assert of_body(**{**said, "input_tokens": 23_000, "output_tokens": 1_000, "iterations": [MESSAGE]}) == Usage(
        23_000, 1_000
    )


def test_figures_that_leave_passes_out_are_not_believed() -> None:
    """Anthropic: what is billed is the sum of the entries."""
    said = {"input_tokens": 23_000, "output_tokens": 1_000, "output_tokens_details": {"thinking_tokens": 9}}
    wanted = Usage(46_000, 2_000, reasoning_tokens=9, apart=(Usage(23_000, 1_000),))
    assert of_body(**said, iterations=[MESSAGE, MESSAGE]) == wanted


def test_a_cache_that_only_the_figures_above_tell_of_is_counted_once() -> None:
    one = {**MESSAGE, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 5}
    said = {"input_tokens": 23_000, "output_tokens": 1_000, **CACHED, "iterations": [one]}
    assert of_body(**said) == Usage(23_000, 1_000, 5, 3, 4)


@pytest.mark.parametrize(
    "iterations", [None, [], [{}], [{"type": "advisor_message", "input_tokens": 9}], [{"type": "new"}]]
)
def test_what_is_no_pass_of_this_model_changes_nothing(iterations: Any) -> None:
    assert of_body(input_tokens=5, output_tokens=6, iterations=iterations) == Usage(5, 6)


def test_no_sum_is_larger_than_a_figure_may_be() -> None:
    most = {"type": "compaction", "input_tokens": MOST_TOKENS, "output_tokens": MOST_TOKENS}
    found = of_body(input_tokens=5, output_tokens=6, iterations=[most] * 9)
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (MOST_TOKENS, MOST_TOKENS)
    assert of_body(input_tokens=5, output_tokens=6, iterations=[MESSAGE] * (MOST_PASSES + 1)) is None


def test_a_broken_report_keeps_the_estimate_beside_its_passes() -> None:
    found = of_body(input_tokens=23_000, iterations=[COMPACTION])
    assert found == Usage(203_000, 3_500, 5, 3, 4, is_estimated=True, apart=(COMPACTED,))
