"""Seeing what a customer sees: their pages with a banner, nothing changed, nothing secret, all of it on record."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from clawhaven.accounts import operators, sessions
from clawhaven.accounts.signup import Owner
from clawhaven.context import Context
from clawhaven.core.audit import AuditEntry
from clawhaven.instances.connections import CLAIM_PURPOSE
from clawhaven.instances.models import Connection, Instance
from clawhaven.web import viewing
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web.conftest import TOKEN, Visit, bring_to_life, draft, token_in

BANNER = "data-view"


@pytest.fixture
def boss(ctx: Context) -> Visit:
    """An operator, signed in with a mailed link."""
    with ctx.db.tx() as db:
        owner = operators.appoint(db, "boss@example.com", ctx.clock.now())
    signed_in = Visit(ctx)
    signed_in.sign_in(owner)
    return signed_in


def look(boss: Visit, owner: Owner) -> None:
    path = f"/admin/accounts/{owner.account.id}"
    begun = boss.post(f"{path}/view", path)
    assert (begun.status_code, begun.headers["location"]) == (303, "/dashboard")


def views(ctx: Context) -> list[tuple[str, str | None]]:
    with ctx.db.read() as db:
        rows = db.scalars(sa.select(AuditEntry).where(AuditEntry.action.startswith("account.view"))).all()
    return sorted((one.action, one.account_id) for one in rows)


def test_from_begin_to_end(boss: Visit, mine: Visit, ctx: Context, owner: Owner, live: str) -> None:
    assert BANNER not in boss.get("/dashboard").text
    look(boss, owner)
    for path in (
        "/dashboard",
        "/usage",
        "/ledger",
        "/billing",
        "/settings",
        "/settings/sessions",
        f"/instances/{live}",
    ):
        page = boss.get(path)
        assert page.status_code == 200, path
        assert BANNER in page.text, path
        assert "alice@example.com" in page.text
    assert "boss@example.com" in boss.get("/admin").text
    assert BANNER not in boss.get("/admin").text
    assert BANNER not in mine.get("/dashboard").text
    ended = boss.post("/admin/view/end", "/dashboard")
    assert ended.headers["location"] == f"/admin/accounts/{owner.account.id}?done=view-ended"
    assert BANNER not in boss.get("/dashboard").text
    assert "alice@example.com" not in boss.get("/dashboard").text
    assert views(ctx) == [
        ("account.view_begin", owner.account.id),
        ("account.view_end", owner.account.id),
    ]


def test_it_ends_by_itself(boss: Visit, ctx: Context, owner: Owner) -> None:
    look(boss, owner)
    ctx.clock.advance(timedelta(minutes=29))
    assert BANNER in boss.get("/dashboard").text
    ctx.clock.advance(timedelta(minutes=2))
    assert BANNER not in boss.get("/dashboard").text


def test_nothing_can_be_changed(boss: Visit, ctx: Context, owner: Owner, live: str) -> None:
    look(boss, owner)
    token = token_in(boss.get("/dashboard").text)
    form = {"csrf": token, "confirm": "alice@example.com", "email": "x@example.com", "chosen": "25", "name": "x"}
    for path in (
        *("/settings/email", "/settings/keys", "/settings/delete", "/settings/sessions/end-others", "/topup"),
        *(f"/instances/{live}/{verb}" for verb in ("stop", "delete", "restart", "replace-key", "configuration")),
        *("/billing/portal", "/billing/coupon", "/configure"),
    ):
        answer = boss.http.post(path, data=form)
        assert answer.status_code in (404, 405, 409), path
        assert answer.status_code != 409 or "nothing can be changed" in answer.text, path
    with ctx.db.read() as db:
        assert db.get_one(Instance, live).deletion_asked_at is None
        actions = set(db.scalars(sa.select(AuditEntry.action).where(AuditEntry.actor.contains("user:"))))
    assert not {
        action for action in actions if action.startswith(("instance.s", "key.", "user.email", "account.delete"))
    }


def test_nothing_secret_is_shown(
    boss: Visit, mine: Visit, ctx: Context, owner: Owner, bot: Bot, world: FolderRuntime
) -> None:
    instance_id = draft(mine, telegram_bot_token=TOKEN)
    bring_to_life(ctx, world, instance_id)
    with ctx.db.read() as db:
        connection = db.scalars(sa.select(Connection)).one()
        claim = ctx.keys.open(str(connection.claim_token), CLAIM_PURPOSE)
    assert claim in mine.get(f"/instances/{instance_id}/channels").text
    look(boss, owner)
    base = f"/instances/{instance_id}"
    shown = 0
    for path in (
        *("/dashboard", "/usage", "/ledger", "/billing", "/topup"),
        *("/settings", "/settings/keys", "/settings/sessions", "/settings/data", "/settings/export"),
        *(base, f"{base}/usage", f"{base}/history", f"{base}/configuration", f"{base}/channels", f"{base}/chat"),
        *(f"/ready/{instance_id}", f"/deploying/{instance_id}", "/ledger.csv", f"{base}/logs"),
    ):
        answer = boss.get(path)
        shown += answer.status_code == 200
        assert claim not in answer.text, path
        assert TOKEN not in answer.text, path
        assert viewing.SHOWN.fullmatch(path) or answer.status_code in (404, 409), path
    assert shown >= 12


def test_who_is_looked_at_and_by_whom(boss: Visit, mine: Visit, ctx: Context, owner: Owner) -> None:
    with ctx.db.tx() as db:
        boss_owner = operators.appoint(db, "boss@example.com", ctx.clock.now())
    for account_id, status in ((boss_owner.account.id, 409), ("acc_nobody", 404)):
        assert boss.post(f"/admin/accounts/{account_id}/view", "/admin/accounts").status_code == status
    look(boss, owner)
    with ctx.db.tx() as db:
        operators.dismiss(db, "boss@example.com", ctx.clock.now())
    assert BANNER not in boss.get("/dashboard").text, "who is no operator any more sees their own pages"


def test_a_view_is_of_one_browser(boss: Visit, ctx: Context, owner: Owner) -> None:
    look(boss, owner)
    with ctx.db.tx() as db:
        boss_owner = operators.appoint(db, "boss@example.com", ctx.clock.now())
        token = sessions.open_session(db, boss_owner.user.id, ctx.clock.now(), days=1)
    other = Visit(ctx)
    other.http.cookies.set(sessions.cookie_name(ctx.settings.base_url), token)
    assert other.get("/dashboard").status_code == 200
    assert BANNER not in other.get("/dashboard").text
