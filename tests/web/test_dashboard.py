"""The dashboard and the old addresses that lead to it."""

from __future__ import annotations

import pytest

from clawhaven.accounts.models import User
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.instances import states
from clawhaven.instances.states import Reason
from clawhaven.workflows import lifecycle
from tests.fakes.usage import add_call
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web.conftest import TOKEN, Visit, bring_to_life, draft


def test_an_empty_dashboard_shows_the_way(mine: Visit) -> None:
    page = mine.get("/dashboard").text
    assert "Nothing here yet" in page
    assert 'href="/configure"' in page


def test_every_state_says_what_to_do(mine: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    page = mine.get("/dashboard").text
    assert "Waiting for payment" in page
    assert "Finish the payment" in page
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        states.begin_provisioning(db, instance_id, now)
    assert "Watch it being built" in mine.get("/dashboard").text
    with ctx.db.tx() as db:
        states.activate(db, instance_id, now)
        states.suspend(db, instance_id, now, Reason.PAYMENT)
        states.suspend(db, instance_id, now, Reason.OWNER)
    page = mine.get("/dashboard").text
    assert "Paused" in page
    assert "A payment is missing" in page
    assert "You stopped it" in page


def test_what_needs_somebody_comes_first(
    mine: Visit, ctx: Context, bot: Bot, world: FolderRuntime, owner: Owner
) -> None:
    wanted = (("Fine", "personal"), ("Waiting", "monthly"), ("Broken", "yearly"))
    fine, waiting, broken = (draft(mine, assistant_name=name, plan=plan) for name, plan in wanted)
    now = ctx.clock.now()
    claimed = draft(mine, assistant_name="Unclaimed", plan="metered", telegram_bot_token=TOKEN)
    for one in (fine, claimed):
        bring_to_life(ctx, world, one)
    with ctx.db.tx() as db:
        states.begin_provisioning(db, broken, now)
        states.fail(db, broken, now, "start_timeout", "It did not answer <b>in time</b>.")
        db.get_one(User, owner.user.id).verified_at = None
    page = mine.get("/dashboard").text
    order = [page.index(f">{name}</a></h2>") for name in ("Broken", "Waiting", "Unclaimed", "Fine")]
    assert order[0] == min(order)
    assert order[-1] == max(order)
    assert "&lt;b&gt;in time" in page
    assert "@ada_haven_bot" in page
    assert f"/instances/{claimed}/channels" in page
    assert "We do not know yet that" in page
    assert waiting in page


def test_the_month_is_drawn_and_added_up(mine: Visit, ctx: Context, owner: Owner, live: str) -> None:
    assert "<svg viewBox" not in mine.get("/dashboard").text.replace('<svg class="icon"', "")
    with ctx.db.tx() as db:
        values = {"model": "claude-sonnet-5-5", "input_tokens": 900, "output_tokens": 90, "price_micros": 4_000_000}
        add_call(db, instance_id=live, account_id=owner.account.id, started_at=ctx.clock.now(), **values)
    page = mine.get("/dashboard").text
    assert "This month, day by day" in page
    assert "claude-sonnet-5-5" in page
    assert "Your messages" in page


def test_what_is_being_deleted_offers_no_chat(mine: Visit, ctx: Context, live: str) -> None:
    assert f'href="/instances/{live}/chat"' in mine.get("/dashboard").text
    assert "What you can do" in mine.get(f"/instances/{live}").text
    with ctx.db.tx() as db:
        lifecycle.ask_delete(db, ctx, live, "cli")
    assert f'href="/instances/{live}/chat"' not in mine.get("/dashboard").text
    assert "What you can do" not in mine.get(f"/instances/{live}").text


def test_others_assistants_are_not_there(stranger: Visit, live: str) -> None:
    assert "Nothing here yet" in stranger.get("/dashboard").text


@pytest.mark.parametrize(
    ("old", "new"),
    [("/success", "/dashboard"), ("/instances", "/dashboard"), ("/dashboard/ins_abc", "/instances/ins_abc")],
)
def test_old_addresses_lead_on(mine: Visit, visit: Visit, old: str, new: str) -> None:
    assert mine.get(old).headers["location"] == new
    assert visit.get(old).headers["location"] == f"/sign-in?next={old}"
