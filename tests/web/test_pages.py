"""The landing page and the addresses that browsers and crawlers know."""

from __future__ import annotations

import dataclasses

import pytest

from clawhaven.billing.plans import Catalogue
from clawhaven.context import Context
from clawhaven.web.pages import saving
from tests.web.conftest import Visit


def test_the_landing_page_says_what_where_and_how_much(visit: Visit) -> None:
    page = visit.get("/")
    assert page.status_code == 200
    for words in ("Your own AI assistant", "$29", "a month", 'action="/configure"', 'type="email"', "/sign-in"):
        assert words in page.text
    for words in ("Own key, quarterly", "saves 13 %", "$299", "saves 14 %", "Your own Anthropic or OpenAI key"):
        assert words in page.text
    assert "From $20 a month" in page.text


def test_a_plan_that_is_not_offered_is_not_shown(visit: Visit, ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {plan.id: dataclasses.replace(plan, is_offered=plan.id == "personal") for plan in ctx.plans}
    monkeypatch.setattr(visit.http.app.state, "ctx", dataclasses.replace(ctx, plans=Catalogue(kept)))
    page = visit.get("/").text
    assert "Personal" in page
    assert "From $29 a month" in page
    assert "quarterly" not in page


def test_somebody_signed_in_is_led_to_their_dashboard(mine: Visit) -> None:
    page = mine.get("/").text
    assert 'href="/dashboard"' in page
    assert 'type="email"' not in page


def test_robots_and_icon(visit: Visit) -> None:
    robots = visit.get("/robots.txt")
    assert "Disallow: /dashboard" in robots.text
    icon = visit.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")


def test_savings_are_computed_from_the_prices() -> None:
    shipped = Catalogue.load()
    plans = Catalogue({plan.id: dataclasses.replace(plan, is_offered=True) for plan in shipped})
    assert saving(plans.get("yearly"), plans) == 14
    assert saving(plans.get("quarterly"), plans) == 13
    assert saving(plans.get("monthly"), plans) == 0
    assert saving(plans.get("metered"), plans) == 0
