"""A benchmark that finds something wrong says so, and fails."""

from __future__ import annotations

from typing import Any

import pytest

from bench import webhooks

GOOD: dict[str, Any] = {"effects": webhooks.EFFECTS, "at_once_ms": {"p50": 9.0, "p99": 49.9}, "slow_workflow_ran": True}


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ""),
        ({"effects": webhooks.EFFECTS | {"receipt": 21}}, "'receipt': 21"),
        ({"at_once_ms": {"p99": 50.0}}, "took 50.0 ms"),
        ({"slow_workflow_ran": False}, "No slow workflow"),
    ],
)
def test_webhooks_are_exact_quick_and_measured_beside_a_slow_workflow(changed: dict[str, Any], told: str) -> None:
    found = webhooks.shortcomings(GOOD | changed)
    assert len(found) == bool(told)
    assert told in "".join(found)


def test_every_shortcoming_is_named() -> None:
    assert len(webhooks.shortcomings({"effects": {}, "at_once_ms": {"p99": 900.0}, "slow_workflow_ran": False})) == 3
