"""The landing page and the addresses that browsers and crawlers know."""

from __future__ import annotations

import dataclasses

from clawhaven.billing.plans import Catalogue
from clawhaven.web.pages import saving
from tests.web.conftest import Visit


def test_the_landing_page_says_what_where_and_how_much(visit: Visit) -> None:
    page = visit.get("/")
    assert page.status_code == 200
    for words in ("Your own AI assistant", "$29", "a month", 'action="/configure"', 'type="email"', "/sign-in"):
        assert words in page.text
    assert "quarterly" not in page.text  # plans that are not offered


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
