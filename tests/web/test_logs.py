"""An assistant's log on its page."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from clawhaven.ports.errors import ProviderError
from clawhaven.ports.runtime import Placement
from tests.fakes.world import FolderRuntime
from tests.web.conftest import TOKEN, Visit, draft


def test_secrets_are_masked_and_markup_is_text(
    mine: Visit, live: str, world: FolderRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def talkative(_placement: Placement, _lines: int = 200) -> Sequence[str]:
        return [f"polling with {TOKEN}\n", "<script>alert(1)</script>"]

    monkeypatch.setattr(world, "logs", talkative)
    page = mine.get(f"/instances/{live}/logs").text
    assert TOKEN not in page
    assert "polling with [redacted]" in page
    assert "&lt;script&gt;alert(1)" in page


def test_a_runtime_that_does_not_answer_is_said(
    mine: Visit, live: str, world: FolderRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(_placement: Placement, _lines: int = 200) -> Sequence[str]:
        raise ProviderError("gone fishing", code="down")

    monkeypatch.setattr(world, "logs", silent)
    page = mine.get(f"/instances/{live}/logs")
    assert page.status_code == 200
    assert "cannot be read at the moment" in page.text
    assert "fishing" not in page.text


def test_nothing_yet(mine: Visit) -> None:
    assert "Nothing has been written yet" in mine.get(f"/instances/{draft(mine)}/logs").text
