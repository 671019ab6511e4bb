"""One assistant's pages and buttons, and that they are its owner's alone."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import select

from clawhaven.context import Context
from clawhaven.core.audit import AuditEntry
from clawhaven.instances import operations, states
from clawhaven.instances.models import Instance, Observed, Operation, WorkspaceVersion
from clawhaven.instances.states import Reason, State
from clawhaven.web import words
from tests.web.conftest import Visit, draft, state_of

TABS = ("", "/chat", "/channels", "/configuration", "/files", "/files/agents", "/usage", "/logs", "/history")
ACTIONS = (
    "start",
    "stop",
    "restart",
    "replace-key",
    "delete",
    "configuration",
    "configuration/apply",
    "files/soul",
    "files/soul/preview",
    "files/soul/versions/1/restore",
    "chat",
    "channels/telegram",
    "channels/telegram/listen",
    "channels/telegram/test",
)


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_is_the_owners(mine: Visit, stranger: Visit, visit: Visit, live: str, tab: str) -> None:
    path = f"/instances/{live}{tab}"
    page = mine.get(path)
    assert page.status_code == 200
    assert page.text.count('aria-current="page"') == 1
    assert stranger.get(path).status_code == 404
    assert visit.get(path).headers["location"] == f"/sign-in?next={path}"


@pytest.mark.parametrize("action", ACTIONS)
def test_every_button_is_the_owners(
    mine: Visit, stranger: Visit, visit: Visit, ctx: Context, live: str, action: str
) -> None:
    path = f"/instances/{live}/{action}"
    assert stranger.post(path, page="/dashboard", confirm="Ada", message="hi").status_code == 404
    assert visit.post(path, page="/sign-in", confirm="Ada").status_code == 401
    assert mine.http.post(path, data={"confirm": "Ada"}).status_code == 403  # without the form's token
    assert state_of(ctx, live) == "active"
    with ctx.db.read() as db:
        assert operations.under_way(db, live) is None
        assert db.get_one(Instance, live).deletion_asked_at is None
        assert db.scalars(select(WorkspaceVersion)).all() == []


@pytest.mark.parametrize("tab", ["", "/channels"])
@pytest.mark.parametrize("state", ["pending", "provisioning", "failed", "suspended", "deleted", "leaving", "active"])
def test_the_browser_s_badge_is_the_assistant_s_own(mine: Visit, ctx: Context, live: str, state: str, tab: str) -> None:
    with ctx.db.tx() as db:
        instance = db.get_one(Instance, live)
        instance.state = State.ACTIVE if state == "leaving" else State(state)
        if state == "leaving":
            instance.deletion_asked_at = ctx.clock.now()
    page = mine.get(f"/instances/{live}{tab}").text
    label = "Ready" if state == "active" else words.badge(instance).label
    badges = re.findall(r'<span class="badge"[^>]*>([^<]+)</span>', page)
    assert badges.count(label) == (1 if state == "active" else 2)
    assert "Asleep" not in page
    assert ("Always there for you" in page) is (state == "active" and tab == "/channels")


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ({"status": "exited", "restarts": 1}, "started again by itself"),
        ({"status": "absent", "restarts": 3}, "We have been told"),
        ({"status": "running", "restarts": 0}, "not restarted by itself"),
        ({"status": "unknown", "restarts": 0}, "we do not know how it is"),
    ],
)
def test_what_is_done_about_silence_is_said_as_it_is(
    mine: Visit, ctx: Context, live: str, seen: dict[str, Any], told: str
) -> None:
    with ctx.db.tx() as db:
        db.add(Observed(instance_id=live, at=ctx.clock.now(), is_healthy=False, **seen))
    page = mine.get(f"/instances/{live}").text
    assert "it did not answer" in page
    assert told in page
    assert ("you need not do anything" in page) is (seen["status"] == "exited")
    with ctx.db.tx() as db:
        db.get_one(Observed, live).is_healthy = True
    assert told not in mine.get(f"/instances/{live}").text


def test_its_key_is_replaced_while_it_has_one_to_replace(mine: Visit, ctx: Context, live: str) -> None:
    overview = f"/instances/{live}"
    assert "Replace its pass" in mine.get(overview).text
    for _ in range(2):
        answer = mine.post(f"{overview}/replace-key", page=overview)
        assert answer.headers["location"] == f"{overview}?done=key-replacing"
    page = mine.get(answer.headers["location"]).text
    assert "A new pass is being made." in page
    assert "Giving it a new pass" in page
    with ctx.db.read() as db:
        assert len(db.scalars(select(Operation).where(Operation.kind == "replace_key")).all()) == 1
    with ctx.db.tx() as db:
        db.get_one(Instance, live).state = State.FAILED
    assert "Replace its pass" not in mine.get(overview).text
    assert mine.post(f"{overview}/replace-key", page=overview).status_code == 409


def test_stop_and_start(mine: Visit, ctx: Context, live: str) -> None:
    overview = f"/instances/{live}"
    stopped = mine.post(f"{overview}/stop", page=overview)
    assert stopped.headers["location"] == f"{overview}?done=stop"
    page = mine.get(stopped.headers["location"]).text
    assert "You stopped it" in page
    assert "Last answer finished" in page  # the operation's steps
    assert f"{overview}/start" in page
    assert f"{overview}/restart" not in page
    assert state_of(ctx, live) == "suspended"
    assert mine.post(f"{overview}/start", page=overview).status_code == 303
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).suspended_for is None
        actors = set(db.scalars(select(AuditEntry.actor).where(AuditEntry.subject == live)))
        owner_id = db.scalars(select(AuditEntry.actor).where(AuditEntry.action == "instance.suspend")).one()
    assert owner_id.startswith("user:usr_")
    assert actors == {owner_id}


def test_restart_is_under_way_and_an_impossible_one_is_explained(mine: Visit, ctx: Context, live: str) -> None:
    overview = f"/instances/{live}"
    assert mine.post(f"{overview}/restart", page=overview).status_code == 303
    assert "Restarting" in mine.get(overview).text
    mine.post(f"{overview}/stop", page=overview)
    refused = mine.post(f"{overview}/restart", page=overview)
    assert refused.status_code == 409
    assert "cannot be restarted" in refused.text
    assert f'href="{overview}"' in refused.text


def test_delete_wants_the_name(mine: Visit, ctx: Context, live: str) -> None:
    overview = f"/instances/{live}"
    wrong = mine.post(f"{overview}/delete", page=overview, confirm="ada")
    assert wrong.status_code == 400
    assert 'id="confirm-error"' in wrong.text
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).deletion_asked_at is None
    assert mine.post(f"{overview}/delete", page=overview, confirm=" Ada ").status_code == 303
    page = mine.get(overview).text
    assert "Being deleted" in page
    assert f"{overview}/delete" not in page
    assert f"{overview}/stop" not in page


def test_history_tells_what_happened(mine: Visit, live: str) -> None:
    page = mine.get(f"/instances/{live}/history").text
    assert page.index("The assistant is ready.") < page.index("Building the assistant.")


def test_a_draft_can_be_paid_or_deleted(mine: Visit) -> None:
    instance_id = draft(mine)
    page = mine.get(f"/instances/{instance_id}").text
    assert "Finish the payment" in page
    assert f"/instances/{instance_id}/delete" in page
    assert f"/instances/{instance_id}/stop" not in page


def test_an_address_cannot_put_words_into_our_mouth(mine: Visit, live: str) -> None:
    page = mine.get(f"/instances/{live}", params={"done": "You won a prize"}).text
    assert "prize" not in page
    assert "Restarting. It takes" in mine.get(f"/instances/{live}", params={"done": "restart"}).text


def test_the_operations_stream_is_the_owners_and_ends(mine: Visit, stranger: Visit, live: str) -> None:
    accept = {"accept": "text/event-stream"}
    assert stranger.get(f"/instances/{live}/events", headers=accept).status_code == 404
    told = mine.get(f"/instances/{live}/events", headers=accept).text
    assert '"is_over": true' in told


@pytest.mark.parametrize(
    ("reason", "says", "way"),
    [
        (Reason.PAYMENT, "A payment is missing", 'href="/billing"'),
        (Reason.BALANCE, "The balance is used up", 'href="/topup"'),
        (Reason.ABUSE, "stopped for unusual use", "mailto:"),
    ],
)
def test_every_tab_of_a_paused_one_says_why_and_what_to_do(
    mine: Visit, ctx: Context, live: str, reason: Reason, says: str, way: str
) -> None:
    with ctx.db.tx() as db:
        states.suspend(db, live, ctx.clock.now(), reason)
    for tab in TABS:
        page = mine.get(f"/instances/{live}{tab}")
        assert (page.status_code, says in page.text, way in page.text) == (200, True, True), tab
    assert f"/instances/{live}/start" not in mine.get(f"/instances/{live}").text


def test_every_tab_of_one_that_is_not_there_reads_well(mine: Visit, ctx: Context) -> None:
    instance_id = draft(mine)
    for tab in TABS:
        page = mine.get(f"/instances/{instance_id}{tab}")
        assert page.status_code == 200
        assert tab == "" or "It is built as soon as it is paid" in page.text
    with ctx.db.tx() as db:
        states.begin_provisioning(db, instance_id, ctx.clock.now())
    assert "Watch it being built" in mine.get(f"/instances/{instance_id}/files").text
    with ctx.db.tx() as db:
        states.fail(db, instance_id, ctx.clock.now(), "disk_full", "The disk is full.")
    for tab in TABS:
        assert "The disk is full. Your payment is safe" in mine.get(f"/instances/{instance_id}{tab}").text
    with ctx.db.tx() as db:
        states.mark_deleted(db, instance_id, ctx.clock.now())
    for tab in TABS:
        page = mine.get(f"/instances/{instance_id}{tab}").text
        assert "This assistant is deleted" in page
        assert 'method="post" action="/instances' not in page, tab


def test_the_overview_tells_version_and_usage(mine: Visit, ctx: Context, live: str) -> None:
    page = mine.get(f"/instances/{live}").text
    assert f"OpenClaw {ctx.settings.openclaw_version}" in page
    assert "Calls in" in page
