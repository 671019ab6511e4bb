"""What a page asks of the database does not grow with what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, func, select

from clawhaven.context import Context
from clawhaven.ledger.models import LedgerPosting
from clawhaven.metering.models import UsageRow
from tests.fakes.world import FolderRuntime
from tests.live.telegram_methods import Bot
from tests.web import crowd, furnishing, gallery
from tests.web.conftest import Visit
from tests.web.household import House

pytestmark = [pytest.mark.timeout(300), pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

COMPARES_EVERYBODY = ("/admin/reconcile",)
"""It asks the payment vendors about every customer; the copies are unknown to them, and each is a difference."""

MOST = 40
"""Statements of one page, at the very most."""


@contextmanager
def counting(ctx: Context) -> Iterator[list[str]]:
    """The statements that are sent to the database meanwhile."""
    said: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        said.append(statement)

    event.listen(ctx.db.engine, "before_cursor_execute", hear)
    yield said
    event.remove(ctx.db.engine, "before_cursor_execute", hear)


def ask_all(ctx: Context, house: House) -> dict[str, list[str]]:
    """The statements of every page."""
    visitors = {**house.visits, "stranger": Visit(ctx)}
    next_door = {who: Visit(house.next_door) for who in {one.who for one in gallery.pages(house) if one.is_next_door}}
    for who, visit in next_door.items():
        visit.http.cookies = visitors[who].http.cookies
    found = {}
    for shown in gallery.pages(house):
        if shown.act is None and shown.path not in COMPARES_EVERYBODY:
            visitor = next_door[shown.who] if shown.is_next_door else visitors[shown.who]
            visitor.get(shown.path)  # what is read once and kept
            with counting(ctx) as said:
                assert visitor.get(shown.path).status_code == shown.status, shown
            found[f"{shown.name} ({shown.path})"] = said
    return found


def test_a_page_asks_no_more_when_there_is_more(ctx: Context, world: FolderRuntime, bot: Bot) -> None:
    house = furnishing.furnish(ctx, world)
    before = ask_all(ctx, house)
    with ctx.db.tx() as db:
        crowd.copy_everything(db, {house.ids["live"]}, 7, "a")  # the customer has more of everything
        crowd.copy_everything(db, {house.ids["account"], house.ids["user"]}, 30)  # and there are more like her
    after = ask_all(ctx, house)
    grown = {
        name: (len(before[name]), len(after[name]), [one for one in after[name] if after[name].count(one) > 3][:1])
        for name in before
        if len(after[name]) > len(before[name])
    }
    assert not grown
    assert {name: len(said) for name, said in after.items() if len(said) > MOST} == {}


def test_a_copy_is_whole(ctx: Context, world: FolderRuntime, bot: Bot) -> None:
    house = furnishing.furnish(ctx, world)
    with ctx.db.tx() as db:
        calls = db.scalars(select(func.count()).select_from(UsageRow)).one()
        assert crowd.copy_everything(db, {house.ids["account"], house.ids["user"]}, 3) > 3 * calls
        assert db.scalars(select(func.count()).select_from(UsageRow)).one() == 4 * calls
        assert db.scalars(select(func.sum(LedgerPosting.amount_micros))).one() == 0
