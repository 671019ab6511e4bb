"""The wire form of a model call."""

from __future__ import annotations

from datetime import UTC, datetime

from clawhaven.api.calls import call_json
from clawhaven.metering.models import UsageRow

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def test_a_call_shows_its_price_and_not_its_cost() -> None:
    row = UsageRow(
        id="use_1",
        instance_id="ins_1",
        model="m",
        state="closed",
        source="person",
        input_tokens=1,
        output_tokens=2,
        cache_read_tokens=3,
        cache_write_5m_tokens=4,
        cache_write_1h_tokens=5,
        reasoning_tokens=0,
        is_estimated=False,
        provider_cost_micros=100,
        price_micros=150,
        price_id="p1",
        started_at=AT,
        ended_at=None,
    )
    shown = call_json(row)
    assert (shown["cache_write_tokens"], shown["price"], shown["price_micros"]) == (9, "$0.00015", 150)
    assert (shown["started_at"], shown["ended_at"]) == ("2026-11-21T12:00:00+00:00", None)
    assert "provider_cost_micros" not in shown
