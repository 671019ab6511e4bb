"""Menus lead to pages that are there, and show which one this is."""

from __future__ import annotations

import dataclasses

import pytest

from clawhaven.context import Context
from clawhaven.web import places
from tests.web.conftest import Visit


@pytest.mark.parametrize(
    ("path", "url"),
    [
        ("/dashboard", "/dashboard"),
        ("/instances/ins_1/chat", "/dashboard"),
        ("/topup", "/billing"),
        ("/usagex", None),
        ("/", None),
    ],
)
def test_a_path_belongs_to_its_place(path: str, url: str | None) -> None:
    found = places.current(places.CUSTOMER, path)
    assert (found.url if found else None) == url


def test_the_longest_address_wins() -> None:
    found = places.current(places.ADMIN, "/admin/accounts/acc_1")
    assert found is not None
    assert found.url == "/admin/accounts"


@pytest.mark.parametrize("place", places.CUSTOMER, ids=lambda place: place.url)
def test_every_place_of_a_customer_is_there_and_marked(mine: Visit, place: places.Place) -> None:
    page = mine.get(place.url)
    assert page.status_code == 200
    menu = page.text.partition("<main")[0]
    assert menu.count(f'href="{place.url}" aria-current="page"') == 1


@pytest.mark.parametrize("place", places.ADMIN, ids=lambda place: place.url)
def test_every_place_of_the_operator_is_there(ctx: Context, mine: Visit, place: places.Place) -> None:
    operator = dataclasses.replace(ctx, settings=ctx.settings.model_copy(update={"admin_emails": "alice@example.com"}))
    mine.http.app.state.ctx = operator
    assert mine.get(place.url).status_code == 200
