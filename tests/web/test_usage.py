"""Usage pages: sums, single calls to the micro-dollar, and never the operator's cost."""

from __future__ import annotations

import pytest

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.ids import new_id
from clawhaven.metering.models import UsageRow
from clawhaven.metering.usage import Sum
from clawhaven.web.usage import CALLS, CHART_HEIGHT, draw
from tests.web.conftest import Visit


def use(ctx: Context, owner: Owner, instance_id: str, count: int, **values: object) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        for number in range(count):
            row = {
                "id": new_id("use"),
                "instance_id": instance_id,
                "account_id": owner.account.id,
                "plan_mode": "included",
                "model": "sandbox-1",
                "upstream": "sandbox",
                "dialect": "anthropic-messages",
                "price_id": "p",
                "markup_percent": 150,
                "state": "closed",
                "source": "person",
                "input_tokens": 1000 + number,
                "output_tokens": 5,
                "price_micros": 123,
                "provider_cost_micros": 77_777,
                "started_at": now,
                "expires_at": now,
            }
            db.add(UsageRow(**(row | values)))


@pytest.mark.parametrize("path", ["/usage", "/instances/{live}/usage"])
def test_sums_and_calls(mine: Visit, stranger: Visit, ctx: Context, owner: Owner, live: str, path: str) -> None:
    use(ctx, owner, live, 2)
    use(ctx, owner, live, 1, state="abandoned", price_micros=0)
    use(ctx, owner, live, 1, is_estimated=True, price_micros=9_000_001)
    page = mine.get(path.format(live=live)).text
    for words in ("$0.000123", "$9.000247", "$9.000001", "(estimated)", "not charged", "sandbox-1", "Your messages"):
        assert words in page, words
    assert "0.077777" not in page
    assert "$9.000247" not in stranger.get("/usage").text


def test_pages_follow_each_other(mine: Visit, ctx: Context, owner: Owner, live: str) -> None:
    use(ctx, owner, live, CALLS + 3)
    first = mine.get("/usage").text
    assert first.count('data-label="in"') == CALLS
    link = first.split('href="/usage?cursor=')[1].split('"')[0]
    assert mine.get(f"/usage?cursor={link}").text.count('data-label="in"') == 3
    assert mine.get("/usage?cursor=nonsense").status_code == 400


def test_bars_reach_up_to_the_busiest_day(ctx: Context) -> None:
    now = ctx.clock.now().replace(year=2026, month=11, day=5)
    bars = draw([Sum("2026-11-02", 10, 0, 0, 0, 0, 1, 0), Sum("2026-11-04", 5, 0, 0, 0, 0, 1, 0)], now)
    assert [bar.height for bar in bars] == [0, CHART_HEIGHT, 0, CHART_HEIGHT / 2, 0]
    assert [bar.height for bar in draw([], now)] == [0] * 5
