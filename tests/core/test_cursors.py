"""Cursors of lists: they survive the way through an address, and nothing else is taken for one."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta, timezone

import pytest

from clawhaven.core import cursors
from clawhaven.core.errors import Invalid

NOW = datetime(2026, 11, 21, 12, 0, 0, 123456, tzinfo=UTC)


def test_there_and_back() -> None:
    for moment in (NOW, NOW.astimezone(timezone(timedelta(hours=9)))):
        assert cursors.read(cursors.write(moment, "ins_a|b")) == (NOW, "ins_a|b")


@pytest.mark.parametrize(
    "text",
    ["", "x", "😀", "%00", *(base64.urlsafe_b64encode(t.encode()).decode() for t in ("|", "2026-01-01|a", "x|y"))],
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as caught:
        cursors.read(text)
    assert caught.value.details["field"] == "cursor"
