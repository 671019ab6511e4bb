"""Asking for the end of an account: proved by a fresh session or by a mailed link, and by nothing else."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from clawhaven.accounts import addresses, farewells, sessions, signup
from clawhaven.core.errors import RateLimited, Unauthorized
from clawhaven.notices import outbox
from clawhaven.notices.models import Notice
from clawhaven.workflows import deletion
from tests.workflows.scene import Scene
from tests.workflows.test_deletion import EMAIL, furnish


def mailed(scene: Scene) -> str:
    """The token of the newest link that confirms a deletion."""
    with scene.ctx.db.read() as db:
        of_kind = sa.select(Notice).where(Notice.kind == "account_deletion_confirm")
        row = db.scalars(of_kind.order_by(Notice.created_at.desc())).first()
        message = outbox.message(db, row.id, scene.ctx.keys) if row else None
    found = re.search(r"/settings/delete/([\w-]+)", message.text) if message else None
    assert found
    return found.group(1)


def test_an_old_session_or_a_key_gets_a_link_that_works_once(scene: Scene) -> None:
    account_id = furnish(scene)
    ctx = scene.ctx
    with ctx.db.tx() as db:
        owner, now = signup.owner_of(db, account_id), ctx.clock.now()
        for session_at in (None, now - farewells.FRESH - timedelta(seconds=1), now + timedelta(hours=1)):
            assert not deletion.ask(db, ctx, owner, EMAIL, "user:me", session_at)
            ctx.clock.advance(timedelta(seconds=1))
        assert farewells.is_waiting(db, owner.user.id, now)
    token = mailed(scene)
    with ctx.db.tx() as db:
        assert deletion.confirm(db, ctx, token).account.id == account_id
    assert scene.count("account_deletion") == 1
    with ctx.db.tx() as db, pytest.raises(Unauthorized):
        deletion.confirm(db, ctx, token)


def test_a_stranger_who_typed_the_address_deletes_nothing(scene: Scene) -> None:
    begun, ctx = scene.sign_up(EMAIL), scene.ctx
    with ctx.db.tx() as db:
        owner = signup.owner_of(db, begun.owner.account.id)
        assert not deletion.ask(db, ctx, owner, EMAIL, "user:me", ctx.clock.now()), "no link opened this session"
    assert scene.count("account_deletion") == 0
    with ctx.db.tx() as db:
        deletion.confirm(db, ctx, mailed(scene))
    assert scene.count("account_deletion") == scene.count("user_account", "verified_at IS NOT NULL") == 1


def test_a_link_is_worth_nothing_once_it_is_old_or_its_owner_shuts_others_out(scene: Scene) -> None:
    account_id, ctx = furnish(scene), scene.ctx
    with ctx.db.read() as db:
        owner = signup.owner_of(db, account_id)

    def end_sessions(db: Any) -> None:
        sessions.close_all(db, owner.user.id)

    def take_back(db: Any) -> None:
        deletion.take_back(db, ctx, owner, "user:me")

    def move(db: Any) -> None:
        addresses.prove(db, addresses.ask(db, owner, "new@example.com", ctx.clock.now()).token, ctx.clock.now())

    def grow_old(_db: Any) -> None:
        ctx.clock.advance(farewells.LIFE)

    for spoil in (end_sessions, take_back, grow_old, move):
        with ctx.db.tx() as db:
            deletion.ask(db, ctx, owner, EMAIL, "user:me")
        ctx.clock.advance(timedelta(seconds=1))
        with ctx.db.tx() as db:
            spoil(db)
        with ctx.db.tx() as db, pytest.raises(Unauthorized):
            deletion.confirm(db, ctx, mailed(scene))
    assert scene.count("account_deletion") == 0
    with ctx.db.tx() as db:
        farewells.sweep(db, ctx.clock.now() + farewells.LIFE)
    assert scene.count("deletion_link") == 0


def test_links_are_mailed_so_often_an_hour(scene: Scene) -> None:
    account_id, ctx = furnish(scene), scene.ctx
    with ctx.db.tx() as db:
        owner = signup.owner_of(db, account_id)
        for _ in range(deletion.ASKS_PER_HOUR):
            deletion.ask(db, ctx, owner, EMAIL, "key:1")
        with pytest.raises(RateLimited):
            deletion.ask(db, ctx, owner, EMAIL, "key:1")
