"""The dashboard and the old addresses that lead to it."""

from __future__ import annotations

import pytest

from clawhaven.context import Context
from clawhaven.instances import states
from clawhaven.instances.states import Reason
from tests.web.conftest import Visit, draft


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


def test_others_assistants_are_not_there(stranger: Visit, live: str) -> None:
    assert "Nothing here yet" in stranger.get("/dashboard").text


@pytest.mark.parametrize(
    ("old", "new"),
    [("/success", "/dashboard"), ("/instances", "/dashboard"), ("/dashboard/ins_abc", "/instances/ins_abc")],
)
def test_old_addresses_lead_on(mine: Visit, visit: Visit, old: str, new: str) -> None:
    assert mine.get(old).headers["location"] == new
    assert visit.get(old).headers["location"] == f"/sign-in?next={old}"
