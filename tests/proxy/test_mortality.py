"""`clawhaven proxy` dies by kill -9 under load, three times; a hundred times: `python -m bench kills`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proxy.mortality import Mortality


@pytest.mark.timeout(400)
def test_three_deaths_lose_and_double_nothing(database_url: str, tmp_path: Path) -> None:
    found = Mortality(database_url, tmp_path / "proxy", arguments=("--processes", "2")).run(3)
    assert found.problems == []
    assert found.kills == 3
    assert found.acknowledged >= 20
    assert found.abandoned, "no kill hit a call under way"
