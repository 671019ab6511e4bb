"""The help's pages: groups, search without scripts, neighbours, and what is not there."""

from __future__ import annotations

import re

from clawhaven.web import articles
from tests.web.conftest import Visit


def test_all_articles_in_their_groups(visit: Visit) -> None:
    page = visit.get("/docs").text
    assert set(re.findall(r'class="card" href="/docs/([\w-]+)"', page)) == set(articles.slugs())
    for title in ("First steps", "Plans and money", "When something is wrong"):
        assert title in page


def test_the_search_is_a_form(visit: Visit) -> None:
    page = visit.get("/docs?q=invoice").text
    assert re.search(r'<form[^>]* method="get" action="/docs"', page)
    assert re.search(r"\d+ articles? for “invoice”", page)
    assert "<mark>" in page
    nothing = visit.get("/docs?q=zebra+crossing").text
    assert "Nothing found" in nothing
    assert "mailto:" in nothing


def test_an_article_has_ways_on(visit: Visit) -> None:
    slugs = articles.slugs()
    place = slugs.index("web-chat")
    ways = visit.get("/docs/web-chat").text.partition("neighbours")[2]
    assert f'href="/docs/{slugs[place - 1]}"' in ways
    assert f'href="/docs/{slugs[place + 1]}"' in ways
    assert "Before this" not in visit.get(f"/docs/{slugs[0]}").text
    assert "After this" not in visit.get(f"/docs/{slugs[-1]}").text


def test_in_another_language_both_the_frame_and_the_article_are_in_it(visit: Visit) -> None:
    page = visit.get("/docs/faq", headers={"accept-language": "de"}).text
    assert '<html lang="de"' in page
    assert '<article class="prose" lang="de">' in page


def test_what_is_not_there(visit: Visit) -> None:
    for path in ("/docs/nothing", "/docs/../app", "/docs/A", "/docs/" + "a" * 61):
        assert visit.get(path).status_code == 404
