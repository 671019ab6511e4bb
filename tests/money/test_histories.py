"""Random histories of customers, vendor and processes that die: when it is calm, every truth holds.

A world that fails prints its seed and everything that happened in it. To play it again:
`make bench ARGS="money --seed SEED --histories 10"`; to shrink it, take fewer deeds (`--deeds`).
"""

from __future__ import annotations

import pytest

from clawhaven.core.settings import Settings
from tests.money.histories import tell

CUSTOMERS = 10
DEEDS = 8


@pytest.mark.parametrize("seed", range(1, 11))
def test_every_truth_holds_in_the_end(settings: Settings, seed: int) -> None:
    tale = tell(settings, seed, CUSTOMERS, DEEDS)
    assert not tale.lies, f"seed {seed}:\n" + "\n".join([*tale.told, "", *tale.lies])
    assert tale.deaths.total() > 5
    assert tale.workflows
