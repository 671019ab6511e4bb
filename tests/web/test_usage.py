"""Usage pages: sums, single calls to the micro-dollar, and never the operator's cost."""

from __future__ import annotations

import pytest

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.metering.usage import Line, Sum
from clawhaven.web.usage import CALLS, draw
from tests.fakes.usage import add_call
from tests.web.conftest import Visit


def use(ctx: Context, owner: Owner, instance_id: str, count: int, **values: object) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        for number in range(count):
            row = {
                "input_tokens": 1000 + number,
                "output_tokens": 5,
                "price_micros": 123,
                "provider_cost_micros": 77_777,
            }
            row |= {"instance_id": instance_id, "account_id": owner.account.id, "plan_mode": "included"}
            add_call(db, **(row | {"started_at": now} | values))


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
    assert first.count('data-label="In"') == CALLS
    link = first.split('href="/usage?cursor=')[1].split('"')[0]
    assert mine.get(f"/usage?cursor={link}").text.count('data-label="In"') == 3
    assert mine.get("/usage?cursor=nonsense").status_code == 400


def test_the_chart_tells_messages_from_what_happens_by_itself(ctx: Context) -> None:
    now = ctx.clock.now().replace(year=2026, month=11, day=3)
    lines = [
        Line(("2026-11-01", "person"), Sum("", 10, 0, 0, 0, 0, 1_000_000, 0)),
        Line(("2026-11-03", "cron"), Sum("", 4, 0, 0, 0, 0, 250_000, 0)),
        Line(("2026-11-03", "heartbeat"), Sum("", 1, 0, 0, 0, 0, 250_000, 0)),
    ]
    chart = draw(lines, now, is_priced=True)
    assert chart.names == ("Your messages", "By itself")
    assert chart.rows == (("1", "$1.00", "$0.00"), ("2", "$0.00", "$0.00"), ("3", "$0.00", "$0.50"))
    assert draw(lines, now, is_priced=False).rows[2] == ("3", "0", "5")
    assert draw([], now, is_priced=False).names == ("Your messages",)
