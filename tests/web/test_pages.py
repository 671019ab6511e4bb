"""The landing page and the addresses that browsers and crawlers know."""

from __future__ import annotations

import dataclasses
import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import pytest

from clawhaven.billing.plans import Catalogue
from clawhaven.context import Context
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
    assert f"Sitemap: {visit.ctx.settings.base_url}/sitemap.xml" in robots.text
    icon = visit.get("/favicon.ico")
    assert (icon.status_code, icon.headers["content-type"]) == (200, "image/svg+xml")


def test_an_operators_logo_is_the_icon(ctx: Context, tmp_path: Path) -> None:
    logo = tmp_path / "logo.png"
    logo.write_bytes(b"\x89PNG\r\n")
    branded = dataclasses.replace(ctx, settings=ctx.settings.model_copy(update={"brand_logo": logo}))
    icon = Visit(branded).get("/favicon.ico")
    assert (icon.headers["content-type"], icon.content) == ("image/png", logo.read_bytes())


def test_when_every_place_is_taken_it_says_so_first(ctx: Context) -> None:
    full = dataclasses.replace(ctx, settings=ctx.settings.model_copy(update={"max_customers": 0}))
    page = Visit(full).get("/").text
    assert "Every place is taken" in page
    assert 'href="/waitlist"' in page
    assert 'type="email"' not in page


def test_the_sitemap_lists_pages_for_everybody(visit: Visit) -> None:
    answer = visit.get("/sitemap.xml")
    assert answer.headers["content-type"] == "application/xml"
    listed = [one.text or "" for one in ElementTree.fromstring(answer.text).iter() if one.tag.endswith("loc")]
    site = visit.ctx.settings.base_url
    assert f"{site}/docs/telegram" in listed
    for address in listed:
        assert visit.get(address.removeprefix(site)).status_code == 200, address


@pytest.mark.parametrize("path", ["/", "/pricing", "/docs", "/docs/telegram", "/status"])
def test_what_is_shared_describes_itself(visit: Visit, path: str) -> None:
    page = visit.get(path).text
    tags = dict(re.findall(r'<meta (?:name|property)="([\w:]+)" content="([^"]*)"', page))
    assert tags["og:url"] == visit.ctx.settings.base_url + path
    assert tags["description"] == tags["og:description"]
    assert 20 < len(tags["description"]) < 200
    assert tags["og:title"]
    assert tags["og:site_name"] == "Clawhaven"
    assert tags["twitter:card"] == "summary_large_image"
    site = visit.ctx.settings.base_url
    assert tags["og:image"].startswith(f"{site}/static/card.png?v=")
    picture = visit.get(tags["og:image"].removeprefix(site))
    assert size_of(picture.content) == (int(tags["og:image:width"]), int(tags["og:image:height"])) == (1200, 630)
    assert len(picture.content) < 100_000
    assert picture.headers["cross-origin-resource-policy"] == "cross-origin"


def size_of(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG. https://www.w3.org/TR/png-3/#11IHDR"""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


def test_an_operators_picture_is_shown_beside_links(ctx: Context, tmp_path: Path) -> None:
    card, logo = tmp_path / "card.jpg", tmp_path / "logo.svg"
    card.write_bytes(b"\xff\xd8\xff")
    logo.write_text("<svg/>")
    settings = ctx.settings.model_copy(update={"brand_card": card, "brand_logo": logo, "brand_name": "Otter"})
    visit = Visit(dataclasses.replace(ctx, settings=settings))
    page = visit.get("/pricing").text
    found = re.search(r'property="og:image" content="([^"]+)"', page)
    assert found is not None
    assert "og:image:width" not in page
    picture = visit.get(found.group(1).removeprefix(settings.base_url))
    assert (picture.headers["content-type"], picture.content) == ("image/jpeg", card.read_bytes())
    assert picture.headers["cross-origin-resource-policy"] == "cross-origin"
    told = visit.get("/site.webmanifest").json()
    assert told["name"] == "Otter"
    assert visit.get(told["icons"][0]["src"]).headers["content-type"] == "image/svg+xml"


def test_a_telephone_is_told_the_name_and_an_icon(visit: Visit) -> None:
    assert 'rel="manifest" href="/site.webmanifest"' in visit.get("/").text
    answer = visit.get("/site.webmanifest")
    assert answer.headers["content-type"] == "application/manifest+json"
    told = answer.json()
    assert (told["name"], told["start_url"]) == ("Clawhaven", "/dashboard")
    assert size_of(visit.get(told["icons"][0]["src"]).content) == (512, 512)
    assert visit.get("/brand/card").status_code == 404
