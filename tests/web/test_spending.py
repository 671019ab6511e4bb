"""One tap lets what an assistant does by itself go on: from a letter without signing in, and from its own page."""

from __future__ import annotations

from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.metering import grants
from clawhaven.metering.grants import GrantTerms
from clawhaven.metering.models import PlanMode, UsageHour
from clawhaven.metering.spending import Spending, spending_of
from clawhaven.metering.usage import hour_of
from clawhaven.workflows import spending
from tests.web.conftest import Visit, draft

DOLLAR = 1_000_000


def pause(ctx: Context, owner: Owner, instance_id: str) -> Spending:
    """An assistant whose allowance of half a dollar is used up."""
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        terms = GrantTerms(
            instance_id, owner.account.id, "h" * 64, PlanMode.METERED, "led_1", automatic_per_day_micros=DOLLAR // 2
        )
        grants.put_grant(db, terms, now=now)
        sums = ("input", "output", "cache_read", "cache_write", "weighted")
        db.add(
            UsageHour(
                instance_id=instance_id,
                hour_at=hour_of(now),
                model="m",
                source="heartbeat",
                account_id=owner.account.id,
                calls=1,
                price_micros=600_000,
                provider_cost_micros=0,
                **{f"{name}_tokens": 0 for name in sums},
            )
        )
    return day(ctx, instance_id)


def day(ctx: Context, instance_id: str) -> Spending:
    with ctx.db.read() as db:
        (found,) = spending_of(db, ctx.clock.now(), instance_ids=[instance_id])
    return found


def test_the_letters_link_is_a_button_that_adds_once(visit: Visit, ctx: Context, owner: Owner, live: str) -> None:
    path = "/continue/" + spending.link(ctx, pause(ctx, owner, live)).rpartition("/")[2]
    for _ in range(2):
        shown = visit.get(path)
        assert shown.status_code == 200
        assert "$0.60" in shown.text
        assert day(ctx, live).extra_micros == 0, "reading the mail adds nothing"
    done = visit.post(path)
    assert done.status_code == 200
    assert "$1.00" in done.text
    assert visit.post(path, page="/sign-in").status_code == 200
    assert day(ctx, live).allowance_micros == DOLLAR
    assert f'action="{path}"' not in visit.get(path).text


def test_other_links_do_nothing(visit: Visit, ctx: Context, owner: Owner, live: str) -> None:
    pause(ctx, owner, live)
    assert visit.get("/continue/" + "v1.x." + "A" * 60).status_code == 404
    assert visit.post("/continue/" + "v1.x." + "A" * 60, page="/sign-in").status_code == 404
    assert day(ctx, live).extra_micros == 0


def test_the_page_shows_the_day_and_lets_it_go_on(
    mine: Visit, stranger: Visit, ctx: Context, owner: Owner, live: str
) -> None:
    pause(ctx, owner, live)
    usage = f"/instances/{live}/usage"
    shown = mine.get(usage).text
    assert "waits until midnight UTC" in shown
    for _ in range(2):
        answer = mine.post(f"/instances/{live}/continue", page=usage, seen="0")
        assert answer.status_code == 303
    assert day(ctx, live).allowance_micros == DOLLAR
    assert "waits until midnight UTC" not in mine.get(usage).text
    assert stranger.post(f"/instances/{live}/continue", page="/dashboard", seen="0").status_code == 404


def test_a_limit_is_set_and_lifted(mine: Visit, stranger: Visit, ctx: Context, owner: Owner, live: str) -> None:
    pause(ctx, owner, live)
    path, usage = f"/instances/{live}/spend-limit", f"/instances/{live}/usage"
    assert mine.post(path, usage, limit="2,50").headers["location"] == f"{usage}?done=limit-saved"
    assert "This limit holds" in mine.get(f"{usage}?done=limit-saved").text
    assert day(ctx, live).limit_micros == 2_500_000
    assert 'value="2.50"' in mine.get(usage).text
    for wrong in ("much", "1.234", "10001"):
        refused = mine.post(path, usage, limit=wrong)
        assert refused.status_code == 400
        assert f'value="{wrong}"' in refused.text
        assert 'id="limit-error"' in refused.text
        assert "Last calls" in refused.text
        assert day(ctx, live).limit_micros == 2_500_000
    assert stranger.post(path, "/dashboard", limit="").status_code == 404
    assert mine.post(path, usage, limit="").status_code == 303
    assert day(ctx, live).limit_micros is None


def test_where_the_customer_s_own_key_pays_no_limit_is_promised(mine: Visit, ctx: Context, owner: Owner) -> None:
    instance_id = draft(mine, plan="monthly")
    pause(ctx, owner, instance_id)
    page = mine.get(f"/instances/{instance_id}/usage").text
    assert "The vendor of your own key bills" in page
    assert "spend-limit" not in page
    assert "midnight UTC" not in page


def test_the_usage_page_shows_what_goes_on_now(
    mine: Visit, visit: Visit, ctx: Context, owner: Owner, live: str
) -> None:
    pause(ctx, owner, live)
    for path in ("/usage", "/usage/live"):
        shown = mine.get(path).text
        assert "Calls under way" in shown
        assert "$0.60" in shown
    assert "<html" not in mine.get("/usage/live").text
    assert visit.get("/usage/live").status_code in (303, 401)
