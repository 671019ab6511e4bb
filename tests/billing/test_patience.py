"""What always fails is asked about more and more rarely, and what shares a round with it gets its turn."""

from __future__ import annotations

from datetime import timedelta

import pytest

from clawhaven.billing.patience import LONGEST, take_turns, wait_after


@pytest.mark.parametrize(
    ("asks", "minutes"), [(0, 10), (1, 10), (2, 20), (3, 40), (6, 320), (7, 360), (50, 360), (10_000, 360)]
)
def test_the_wait_doubles_up_to_six_hours(asks: int, minutes: int) -> None:
    assert wait_after(asks) == timedelta(minutes=minutes) <= LONGEST


def test_each_group_has_its_turn() -> None:
    many, few = [f"a{number}" for number in range(5)], ["b0"]
    assert take_turns([many, few, []], 4) == ["a0", "b0", "a1", "a2"]
    assert take_turns([many, few], 100) == ["a0", "b0", "a1", "a2", "a3", "a4"]
    assert take_turns([], 3) == []
