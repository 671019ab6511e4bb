"""The operator's watch: who sees it, what it lists, and what can be done there."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from clawhaven.accounts import operators
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core import audit
from clawhaven.instances import states
from clawhaven.notices import kinds
from clawhaven.workflows import letters
from tests.web.conftest import Visit, draft, token_in

PAGES = ("fleet", "workflows", "workflows?state=done", "audit", "check", "alerts", "alerts?closed=true")


@pytest.fixture
def boss(ctx: Context) -> Visit:
    """An operator, signed in with a mailed link."""
    with ctx.db.tx() as db:
        owner = operators.appoint(db, "boss@example.com", ctx.clock.now())
    signed_in = Visit(ctx)
    signed_in.sign_in(owner)
    return signed_in


def test_strangers_find_nothing_here(visit: Visit, mine: Visit, boss: Visit, owner: Owner) -> None:
    token = token_in(mine.get("/dashboard").text)
    for name in PAGES:
        assert visit.get(f"/admin/{name}").headers["location"].startswith("/sign-in")
        assert mine.get(f"/admin/{name}").status_code == 404
        assert boss.get(f"/admin/{name}").status_code == 200, name
    for path in ("workflows/retry", "alerts/not_x/close", f"accounts/{owner.account.id}/view", "view/end"):
        assert mine.http.post(f"/admin/{path}", data={"csrf": token, "id": "x"}).status_code == 404
        assert boss.http.post(f"/admin/{path}", data={"id": "x"}).status_code == 403


def test_the_fleet_by_state_and_words(boss: Visit, mine: Visit, ctx: Context) -> None:
    assert "No assistant yet" in boss.get("/admin/fleet").text
    instance_id = draft(mine, assistant_name="Ada & Co")
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        states.begin_provisioning(db, instance_id, now)
        states.fail(db, instance_id, now, "disk_full", "The disk of <b>srv1</b> is full.")
    for query in ("", "?state=failed", "?state=trouble", "?search=ada%20%26", "?search=ALICE@"):
        page = boss.get(f"/admin/fleet{query}").text
        assert instance_id in page, query
        assert "Ada &amp; Co" in page
        assert "&lt;b&gt;srv1" in page
        assert "alice@example.com" in page
    for query in ("?state=active", "?search=nobody"):
        assert "None like this" in boss.get(f"/admin/fleet{query}").text
    for wrong in ("?state=x", "?cursor=x"):
        assert boss.get(f"/admin/fleet{wrong}").status_code == 400


def test_workflows_by_state_and_retry(boss: Visit, mine: Visit, ctx: Context) -> None:
    assert "Nothing has failed" in boss.get("/admin/workflows").text
    draft(mine)
    waiting = boss.get("/admin/workflows?state=waiting").text
    assert "deliver" in waiting
    assert "Try again" not in waiting.split("<tbody")[1]
    with ctx.db.read() as db:
        run_id = db.execute(sa.text(f"SELECT workflow_uuid FROM {_table(ctx)} LIMIT 1")).scalar_one()
    assert boss.post("/admin/workflows/retry", "/admin", id=run_id).status_code == 409, "it has not failed"
    assert boss.post("/admin/workflows/retry", "/admin", id="nothing").status_code == 404
    with ctx.db.tx() as db:
        gave_up = f"UPDATE {_table(ctx)} SET status = 'MAX_RECOVERY_ATTEMPTS_EXCEEDED' WHERE workflow_uuid = :id"
        db.execute(sa.text(gave_up), {"id": run_id})
    failed = boss.get("/admin/workflows").text
    assert "every worker that took it up has died" in failed
    assert boss.post("/admin/workflows/retry", "/admin/workflows", id=run_id).status_code == 303
    assert "Nothing has failed" in boss.get("/admin/workflows").text
    for wrong in ("?state=x", "?cursor=x"):
        assert boss.get(f"/admin/workflows{wrong}").status_code == 400


def _table(ctx: Context) -> str:
    return "workflow_status" if ctx.db.is_sqlite else "dbos.workflow_status"


def test_the_audit_log_by_who_what_whose_and_when(boss: Visit, ctx: Context, owner: Owner) -> None:
    now = ctx.clock.now()
    with ctx.db.tx() as db:
        who, account_id = f"user:{owner.user.id}", owner.account.id
        audit.record(db, now, who, "thing.made", "thg_1", account_id, why="<i>because</i>")
        for number in range(60):
            audit.record(db, now, "workflow:x", "thing.moved", f"thg_{number}")
    day = f"{now:%Y-%m-%d}"
    for query, is_there in (
        ("who=alice@example.com", True),
        ("who=workflow:", False),
        ("action=thing.ma", True),
        ("action=thing.mo", False),
        (f"account={owner.account.id}", True),
        ("account=alice@example.com&who=user:", True),
        (f"since={day}&until={day}&action=thing.made", True),
        ("until=2020-01-01", False),
    ):
        page = boss.get(f"/admin/audit?{query}").text
        assert ("thing.made" in page) is is_there, query
        if is_there:
            assert "&lt;i&gt;because" in page
            assert "alice@example.com" in page
    first = boss.get("/admin/audit?action=thing").text
    assert "Earlier ones" in first
    assert first.count("<tr") == 51
    for wrong in ("who=no@body.example", "account=no@body.example", "account=acc_x", "since=yesterday"):
        answer = boss.get(f"/admin/audit?{wrong}")
        assert (answer.status_code, 'role="alert"' in answer.text) == (400, True), wrong
        assert f'id="{wrong.partition("=")[0]}-error"' in answer.text, "beside the field that is wrong"


def test_the_check_says_what_doctor_says(boss: Visit, ctx: Context) -> None:
    page = boss.get("/admin/check").text
    for words in ("runtime folder", "database", "plan personal"):
        assert words in page


def test_alerts_are_closed(boss: Visit, ctx: Context) -> None:
    assert "Nothing to look at" in boss.get("/admin/alerts").text
    with ctx.db.tx() as db:
        letters.post_to(db, ctx, "a", kinds.alert("A <b>disk</b> is full", "…"), "ops@example.com")
        notice_id = db.execute(sa.text("SELECT id FROM notice WHERE kind = 'alert'")).scalar_one()
    for path in ("/admin/alerts", "/admin"):
        assert "A &lt;b&gt;disk&lt;/b&gt; is full" in boss.get(path).text
    assert boss.post(f"/admin/alerts/{notice_id}/close", "/admin/alerts").status_code == 303
    assert "disk" not in boss.get("/admin/alerts").text
    assert "disk" in boss.get("/admin/alerts?closed=true").text
    assert "disk" not in boss.get("/admin").text
    assert boss.post("/admin/alerts/not_x/close", "/admin/alerts").status_code == 404
