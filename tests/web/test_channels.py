"""Bots: connected, claimed, replaced, taken away."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from sqlalchemy import select

from clawhaven.billing.plans import Catalogue
from clawhaven.context import Context
from clawhaven.instances import connections, operations
from clawhaven.instances.models import Connection
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.live.telegram_server import TelegramServer
from tests.web.conftest import TOKEN, Visit


def connected(ctx: Context) -> Connection:
    with ctx.db.read() as db:
        return db.scalars(select(Connection)).one()


def connect(mine: Visit, live: str, token: str = TOKEN) -> int:
    page = f"/instances/{live}/channels"
    return mine.post(f"{page}/telegram", page=page, telegram_bot_token=token).status_code


def test_connect_shows_the_claim_link_and_never_the_token(mine: Visit, ctx: Context, live: str, bot: Bot) -> None:
    path = f"/instances/{live}/channels"
    assert "Not connected" in mine.get(path).text
    assert connect(mine, live) == 303
    page = mine.get(path).text
    assert "Waits for you" in page
    assert "@ada_haven_bot" in page
    assert str(connections.claim_url(connected(ctx), ctx.keys)) in page
    assert 'src="data:image/svg+xml' in page
    assert TOKEN not in page
    with ctx.db.read() as db:
        operation = operations.under_way(db, live)
    assert operation is not None
    assert operation.kind == "configure"


def test_a_wrong_token_is_told_at_its_field(mine: Visit, ctx: Context, live: str, bot: Bot) -> None:
    path = f"/instances/{live}/channels"
    for wrong in ("nonsense", "987654321:" + "B" * 35):
        page = mine.post(f"{path}/telegram", page=path, telegram_bot_token=wrong)
        assert page.status_code == 400
        assert 'id="telegram_bot_token-error"' in page.text
        assert wrong not in page.text


def test_replace_keeps_one_bot(mine: Visit, ctx: Context, live: str, bot: Bot, telegram: TelegramServer) -> None:
    other = "555555555:" + "C" * 35
    telegram.add_bot(other, "other_haven_bot")
    assert connect(mine, live) == 303
    assert connect(mine, live, other) == 303
    assert connected(ctx).bot_username == "other_haven_bot"


def test_a_claimed_bot_says_whom_it_serves(mine: Visit, ctx: Context, live: str, bot: Bot) -> None:
    connect(mine, live)
    with ctx.db.tx() as db:
        connections.claim(db, connected(ctx).id, "7", "alice_t", ctx.clock.now())
    page = mine.get(f"/instances/{live}/channels").text
    assert "It answers @alice_t and nobody else" in page
    assert "?start=" not in page


def test_listening_again_is_offered_once_nobody_listens(mine: Visit, ctx: Context, live: str, bot: Bot) -> None:
    path = f"/instances/{live}/channels"
    connect(mine, live)
    assert "Wait for me again" not in mine.get(path).text
    ctx.clock.advance(timedelta(hours=25))
    assert "Wait for me again" in mine.get(path).text
    assert mine.post(f"{path}/telegram/listen", page=path).headers["location"] == f"{path}?done=listening"


def test_disconnect_frees_the_bot(mine: Visit, ctx: Context, live: str, bot: Bot) -> None:
    path = f"/instances/{live}/channels"
    connect(mine, live)
    assert mine.post(f"{path}/telegram/disconnect", page=path).status_code == 303
    with ctx.db.read() as db:
        assert db.scalars(select(Connection)).all() == []
    assert mine.post(f"{path}/telegram/disconnect", page=path).status_code == 404
    assert mine.post(f"{path}/pigeon", page=path).status_code == 400


def test_a_plan_that_names_its_channels_has_no_others(
    mine: Visit, ctx: Context, live: str, bot: Bot, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {plan.id: dataclasses.replace(plan, channels=("whatsapp",)) for plan in ctx.plans}
    monkeypatch.setattr(mine.http.app.state, "ctx", dataclasses.replace(ctx, plans=Catalogue(named)))
    path = f"/instances/{live}/channels"
    page = mine.post(f"{path}/telegram", page=path, telegram_bot_token=TOKEN)
    assert page.status_code == 400
    assert "has these channels: whatsapp" in page.text
    with ctx.db.read() as db:
        assert db.scalars(select(Connection)).all() == []


def test_a_channel_is_tried_at_both_ends(
    mine: Visit, ctx: Context, live: str, bot: Bot, telegram: TelegramServer, world: FolderRuntime
) -> None:
    path = f"/instances/{live}/channels"
    assert mine.post(f"{path}/telegram/test", page=path).status_code == 404
    connect(mine, live)
    page = mine.post(f"{path}/telegram/test", page=path).text
    assert "The network knows the bot." in page
    assert "It waits for you" in page
    with ctx.db.tx() as db:
        connections.claim(db, connected(ctx).id, "7", "alice_t", ctx.clock.now())
    assert "The assistant is there and answers." in mine.post(f"{path}/telegram/test", page=path).text
    (world.root / live / "RUNNING").unlink()
    telegram.revoke(bot)
    page = mine.post(f"{path}/telegram/test", page=path).text
    assert "does not accept the bot&#39;s token any more" in page
    assert "does not answer at the moment" in page
