"""The steps, for owners and for whoever holds the address; the page once it is ready."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from clawhaven.accounts.signup import Owner
from clawhaven.billing import checkouts
from clawhaven.billing.models import Refund
from clawhaven.context import Context
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance
from clawhaven.web import progress, words
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web.conftest import TOKEN, Visit, bring_to_life, draft, state_of, subscribe, token_in
from tests.web.test_billing import pay


def test_waiting_for_payment_shows_all_steps_and_the_owner_can_pay(mine: Visit, visit: Visit) -> None:
    instance_id = draft(mine)
    page = mine.get(f"/deploying/{instance_id}").text
    assert page.count('data-state="waiting"') == 7
    assert "Finish the payment" in page
    back = mine.get(f"/deploying/{instance_id}?paid=1").text
    assert "on its way" in back
    assert "Finish the payment" not in back
    assert '<noscript><meta http-equiv="refresh"' in page
    public = visit.get(f"/deploying/{instance_id}").text
    assert public.count('data-state="waiting"') == 7
    for private in ("Ada", "alice", "/checkout/", "/ready/"):
        assert private not in public


def test_a_live_one_leads_its_owner_on_and_tells_others_little(mine: Visit, visit: Visit, live: str) -> None:
    answer = mine.get(f"/deploying/{live}")
    assert (answer.status_code, answer.headers["location"]) == (303, f"/ready/{live}")
    public = visit.get(f"/deploying/{live}").text
    assert "The assistant is live" in public
    assert "Ada" not in public
    assert f"/ready/{live}" not in public


def test_a_failure_shows_its_reason_and_only_the_owner_tries_again(
    mine: Visit, visit: Visit, stranger: Visit, ctx: Context
) -> None:
    instance_id = draft(mine)
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        states.begin_provisioning(db, instance_id, now)
        operation = operations.open_operation(db, instance_id, "provision", now, done=["payment_confirmed"])
        operations.end_step(db, operation.id, "wait_ready", now, "failed")
        operations.close(db, operation.id, now, "not_ready", "It was too slow.")
        states.fail(db, instance_id, now, "not_ready", "It was too slow.")
    path = f"/deploying/{instance_id}"
    for page in (mine.get(path).text, visit.get(path).text):
        assert "It was too slow." in page
        assert 'data-state="failed"' in page
        assert "meta http-equiv" not in page
    assert "Try again" in mine.get(path).text
    assert f"{path}/retry" not in visit.get(path).text
    assert stranger.post(f"{path}/retry", page="/dashboard").status_code == 404
    assert visit.post(f"{path}/retry", page="/sign-in").status_code == 401
    assert state_of(ctx, instance_id) == "failed"
    unpaid = mine.post(f"{path}/retry", page=path)
    assert unpaid.status_code == 402
    assert "A payment is missing" in unpaid.text
    subscribe(ctx, instance_id)
    assert mine.post(f"{path}/retry", page=path).status_code == 303
    assert state_of(ctx, instance_id) == "provisioning"


def fail(ctx: Context, instance_id: str) -> None:
    with ctx.db.tx() as db:
        states.fail(db, instance_id, ctx.clock.now(), "not_ready", "It was too slow.")


def test_giving_up_after_a_failure_returns_the_money(mine: Visit, visit: Visit, stranger: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    path = f"/deploying/{instance_id}"
    with ctx.db.read() as db:
        checkout = checkouts.of_instance(db, instance_id)
    assert checkout is not None
    pay(ctx, str(checkout.url))
    fail(ctx, instance_id)
    page = mine.get(path).text
    assert "Give up and get $29.00 back" in page
    assert "/give-up" not in visit.get(path).text
    assert stranger.post(f"{path}/give-up", page="/configure").status_code == 404
    assert mine.post(f"{path}/give-up", page=path).headers["location"] == path
    after = mine.get(path).text
    assert "This order was given up" in after
    assert "$29.00 goes back the way it came." in after
    assert "Try again" not in after
    assert "$29.00" not in visit.get(path).text
    assert mine.http.post(f"{path}/give-up", data={"csrf": token_in(mine.get("/configure").text)}).status_code == 409
    with ctx.db.read() as db:
        assert [row.amount_micros for row in db.scalars(select(Refund))] == [29_000_000]


def test_where_money_cannot_go_back_by_itself_a_letter_is_begun(mine: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    with ctx.db.tx() as db:
        states.begin_provisioning(db, instance_id, ctx.clock.now())
    fail(ctx, instance_id)
    page = mine.get(f"/deploying/{instance_id}").text
    assert f'href="mailto:{ctx.settings.support_address}?subject=' in page
    assert instance_id in page.split("mailto:")[1]


def test_the_time_so_far_and_what_comes_next_are_told(mine: Visit, visit: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    path = f"/deploying/{instance_id}"
    assert "<p data-clock hidden>" in mine.get(path).text
    with ctx.db.tx() as db:
        states.begin_provisioning(db, instance_id, ctx.clock.now())
        operation = operations.open_operation(db, instance_id, "provision", ctx.clock.now(), done=["payment_confirmed"])
    assert visit.get(f"{path}/progress").json()["coming"] == "It is its turn in a moment."
    with ctx.db.tx() as db:
        operations.begin_step(db, operation.id, "reserve_place", ctx.clock.now())
    ctx.clock.advance(timedelta(seconds=72))
    page = visit.get(path).text
    told = re.search(r'<span data-seconds="(\d+)">1:(\d\d)</span>', page)
    assert told is not None
    assert int(told[1]) == 60 + int(told[2]) >= 72
    assert "Next: Its settings written and checked" in page
    view = visit.get(f"{path}/progress").json()
    assert (view["state"], view["is_timed"], view["is_over"]) == ("provisioning", True, False)
    assert [step["state"] for step in view["steps"]][:3] == ["done", "running", "waiting"]


def test_ready_shows_chat_link_claim_link_and_code(mine: Visit, ctx: Context, world: FolderRuntime, bot: Bot) -> None:
    instance_id = draft(mine, telegram_bot_token=TOKEN)
    early = mine.get(f"/ready/{instance_id}")
    assert (early.status_code, early.headers["location"]) == (303, f"/deploying/{instance_id}")
    bring_to_life(ctx, world, instance_id)
    page = mine.get(f"/ready/{instance_id}").text
    assert f'href="/instances/{instance_id}/chat"' in page
    assert "https://t.me/ada_haven_bot?start=" in page
    assert 'src="data:image/svg+xml' in page
    assert TOKEN not in page


def test_ready_is_the_owners(stranger: Visit, visit: Visit, live: str) -> None:
    assert stranger.get(f"/ready/{live}").status_code == 404
    assert visit.get(f"/ready/{live}").headers["location"] == f"/sign-in?next=/ready/{live}"


@pytest.mark.parametrize(
    "path",
    ["/deploying/ins_unknown", "/deploying/ins_unknown/events", "/deploying/ins_unknown/progress", "/deploying/%00"],
)
def test_a_guess_finds_nothing(visit: Visit, path: str) -> None:
    assert visit.get(path).status_code == 404


def test_a_cancelled_draft_says_so(mine: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    with ctx.db.tx() as db:
        db.get_one(Instance, instance_id).deletion_asked_at = ctx.clock.now()
    page = mine.get(f"/deploying/{instance_id}").text
    assert "This order was cancelled" in page
    assert "Nothing was charged" in page
    assert "data-steps" not in page, "nothing of it is still to come"


def test_a_paid_order_that_is_deleted_while_it_is_built_says_nothing_of_money(mine: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    with ctx.db.tx() as db:
        db.get_one(Instance, instance_id).paid_at = ctx.clock.now()
        db.get_one(Instance, instance_id).deletion_asked_at = ctx.clock.now()
    for state in ("pending", "provisioning"):
        page = mine.get(f"/deploying/{instance_id}").text
        assert "This order was cancelled" in page, state
        assert "It is being deleted with everything it kept." in page
        assert "Nothing was charged" not in page
        with ctx.db.tx() as db:
            states.begin_provisioning(db, instance_id, ctx.clock.now())


def test_who_comes_back_watches_it_start(mine: Visit, ctx: Context, live: str) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        states.suspend(db, live, now, states.Reason.PAYMENT)
    page = mine.get(f"/deploying/{live}").text
    assert "Bringing the assistant back" in page
    assert page.count('data-state="waiting"') == len(operations.STEPS["resume"])
    assert "data-next" in page
    with ctx.db.tx() as db:
        operations.end_step(db, operations.open_operation(db, live, "resume", now).id, "start_gateway", now)
    assert mine.get(f"/deploying/{live}").text.count('data-state="done"') == 1
    with ctx.db.tx() as db:
        db.get_one(Instance, live).suspended_for = ""
    assert "Bringing the assistant back" in mine.get(f"/deploying/{live}").text
    with ctx.db.tx() as db:
        states.suspend(db, live, now, states.Reason.OWNER)
    assert "The assistant is paused" in mine.get(f"/deploying/{live}").text


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_stream_follows_from_payment_to_life_and_ends(
    served: Context, world: FolderRuntime, mine: Visit, owner: Owner
) -> None:
    world.boot_seconds = 0.5
    instance_id = draft(mine)
    seen: list[dict[str, Any]] = []
    with (
        httpx2.Client(base_url=served.settings.base_url, timeout=60) as http,
        http.stream("GET", f"/deploying/{instance_id}/events") as stream,
    ):
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["x-accel-buffering"] == "no"
        for line in stream.iter_lines():
            if not line.startswith("data: "):
                continue
            seen.append(json.loads(line.removeprefix("data: ")))
            if len(seen) == 1:
                page = mine.get(f"/deploying/{instance_id}").text
                checkout = page.split('href="/checkout/')[1].split('"')[0]
                vendor = mine.get(f"/checkout/{checkout}").headers["location"]
                http.post(vendor, data={"outcome": "paid", "duplicate": "2"})
    assert seen[0]["state"] == "pending"
    assert [step["state"] for step in seen[-1]["steps"]] == ["done"] * 7
    assert seen[-1]["is_over"] is True
    assert any(step["state"] == "running" for view in seen for step in view["steps"])
    assert owner.user.email not in json.dumps(seen)


def test_every_step_and_state_has_its_words() -> None:
    assert {step for steps in operations.STEPS.values() for step in steps} <= words.STEPS.keys()
    assert set(operations.STEPS) <= words.OPERATIONS.keys()
    assert set(states.State) == set(progress.HEADLINES) == set(words.BADGES)
    assert set(states.Reason) == set(words.REASONS)
