"""Articles for customers: every one renders, leads somewhere, and says the operator's name as text."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clawhaven.api.app import create_app as create_api
from clawhaven.billing.plans import Catalogue
from clawhaven.context import Context
from clawhaven.web import articles
from clawhaven.web.articles import PICTURES, fill_in, offered, search, write_html
from clawhaven.web.languages import LANGUAGES, SOURCE
from tests.web.conftest import Visit

ONCE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""Articles ask the database for nothing of their own."""

SLUGS = articles.slugs()
TRANSLATED = sorted(path for path in articles.FOLDER.glob("*/*.md") if path.parent.name != "en")
TOPICS = {
    *("first-steps", "telegram", "web-chat", "plans-and-billing", "usage-and-top-up", "own-key", "privacy"),
    *("pause-cancel-delete", "troubleshooting", "faq"),
}


@ONCE
def test_every_topic_and_every_channel_has_its_article(ctx: Context) -> None:
    assert set(SLUGS) >= TOPICS
    assert set(ctx.channels) <= {source.channel for source in articles._sources()}


@ONCE
@pytest.mark.parametrize("slug", SLUGS)
def test_an_article_is_whole(visit: Visit, slug: str) -> None:
    page = visit.get(f"/docs/{slug}")
    assert page.status_code == 200
    assert page.text.count("<h1>") == 1
    article = page.text.partition("<article")[2].partition("</article>")[0]
    assert not re.search(r"\{[a-z_]+\}|\[[^\]]+\]\(|<p>\||\*\*", article)
    ids = re.findall(r'<h[23] id="([^"]+)"', article)
    assert ids
    assert len(set(ids)) == len(ids)
    assert len(re.findall(r"<h[23]", article)) == len(ids)


@ONCE
@pytest.mark.parametrize("slug", SLUGS)
def test_its_links_and_pictures_lead_somewhere(visit: Visit, mine: Visit, slug: str) -> None:
    html = visit.get(f"/docs/{slug}").text
    article = html.partition("<article")[2].partition("</nav>\n</div>")[0]
    for link in set(re.findall(r'href="([^"]+)"', article)):
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in article, link
        elif link.startswith("/api/"):
            assert TestClient(create_api(visit.ctx)).get(link).status_code == 200, link
        elif link.startswith("/"):
            assert mine.get(link).status_code in (200, 303), link
        else:
            assert link.startswith(("https://", "mailto:")), link
    for tag in re.findall(r"<img [^>]*>", article):
        assert re.search(r'alt="[^"]{20,}"', tag), tag
        assert 'width="' in tag
        assert 'height="' in tag
        address = re.search(r'src="([^"]+)"', tag)
        assert address is not None
        assert visit.get(address.group(1)).status_code == 200


@pytest.mark.parametrize("path", TRANSLATED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_translation_is_of_the_same_article(path: Path) -> None:
    mine = articles._read(path, path.parent.name)
    (theirs,) = [source for source in articles._sources() if source.slug == mine.slug]
    assert (mine.group, mine.order, mine.channel, mine.access) == (
        theirs.group,
        theirs.order,
        theirs.channel,
        theirs.access,
    )
    for pattern in (r"\]\([^)]+\)", r"(?m)^#+ ", r"\{[a-z_]+\}", r"`[^`]+`"):
        of_mine, of_theirs = re.findall(pattern, mine.text), re.findall(pattern, theirs.text)
        assert sorted(of_mine) == sorted(of_theirs), pattern


@ONCE
def test_an_article_is_in_the_readers_language_where_it_can_be(visit: Visit) -> None:
    page = visit.get("/docs/telegram", headers={"accept-language": "de"}).text
    assert '<article class="prose" lang="de">' in page
    assert "Telegram verbinden" in page
    assert "Anhalten, kündigen, löschen" in visit.get("/docs?q=kündigen", headers={"accept-language": "de"}).text


def test_every_picture_is_used_and_carries_nothing_that_runs() -> None:
    used = set(re.findall(r"\]\(([\w-]+\.svg)\)", "".join(source.text for source in articles._sources())))
    assert used == {path.name for path in PICTURES.iterdir() if path.name.count(".") == 1}
    translated = [path.name.split(".") for path in PICTURES.iterdir() if path.name.count(".") > 1]
    assert {f"{name}.{kind}" for name, _, kind in translated} <= used
    assert {language for _, language, _ in translated} <= set(LANGUAGES)
    for path in PICTURES.iterdir():
        assert not re.search(r"<script|href=|on\w+=|<foreignObject", path.read_text())


@ONCE
def test_names_of_the_operator_are_text(ctx: Context) -> None:
    name = "Otter & <b>*Sons*</b> [x](javascript:alert(1))"
    html, _, plain = write_html(fill_in("# {brand}\n\nWrite to {brand}.", {"brand": name}))
    assert "Otter &amp; &lt;b&gt;*Sons*&lt;/b&gt; [x](javascript:alert(1))" in html
    assert "<b>" not in html
    assert "<a" not in html
    assert name in plain
    branded = dataclasses.replace(ctx, settings=ctx.settings.model_copy(update={"brand_name": name}))
    page = Visit(branded).get("/docs/faq").text
    assert "What is Otter &amp; &lt;b&gt;*Sons*" in page
    with pytest.raises(KeyError):
        fill_in("{nobody}", {})


@ONCE
def test_what_is_not_on_offer_has_no_article(ctx: Context) -> None:
    kept = {plan.id: dataclasses.replace(plan, is_offered=plan.id == "personal") for plan in ctx.plans}
    fewer = dataclasses.replace(ctx, plans=Catalogue(kept), channels={})
    found = {article.slug for article in offered(fewer)}
    assert found.isdisjoint({"telegram", "usage-and-top-up", "own-key"})
    assert Visit(fewer).get("/docs/own-key").status_code == 404


@ONCE
def test_the_search_ranks_and_marks(ctx: Context) -> None:
    known = offered(ctx)
    assert search(known, "telegram token")[0].article.slug == "telegram"
    assert search(known, "CANCEL")[0].article.slug == "pause-cancel-delete"
    assert search(known, "zebra") == []
    assert search(known, " -- ") == []
    assert "<mark>" in search(known, "botfather")[0].excerpt


@ONCE
@pytest.mark.parametrize(
    ("asked", "slug"),
    [
        ("Kündigung", "pause-cancel-delete"),
        ("kuendigen", "pause-cancel-delete"),
        ("Rechnungen", "plans-and-billing"),
        ("Bot antwortet nicht", "telegram"),
        ("Guthaben aufladen", "usage-and-top-up"),
        ("Modellschlüssel", "own-key"),
        ("Datenschutz", "privacy"),
        ("Grenze am Tag", "limits"),
        ("App", "on-your-phone"),
        ("umziehen", "moving"),
        ("Browser", "web-chat"),
    ],
)
def test_the_search_understands_german(ctx: Context, asked: str, slug: str) -> None:
    assert slug in [found.article.slug for found in search(offered(ctx, "de"), asked)][:3]


@ONCE
def test_the_search_knows_other_forms_of_a_word(ctx: Context) -> None:
    known = offered(ctx)
    for asked, slug in (
        ("cancellation", "pause-cancel-delete"),
        ("cancelling", "pause-cancel-delete"),
        ("invoices", "plans-and-billing"),
        ("model keys", "own-key"),
    ):
        assert slug in [found.article.slug for found in search(known, asked)][:3], asked
    assert "<mark>kündigen</mark>" in search(offered(ctx, "de"), "KUENDIGUNG")[0].excerpt.lower()


def test_a_picture_speaks_the_readers_language_where_it_can() -> None:
    text = "![Das Feld für das Token](telegram-connect.svg)"
    assert "telegram-connect.de.svg" in write_html(text, "de")[0]
    assert "telegram-connect.svg" in write_html(text)[0]


def test_every_article_is_in_every_language() -> None:
    slugs = {path.name for path in (articles.FOLDER / SOURCE).glob("*.md")}
    for language in LANGUAGES:
        assert {path.name for path in (articles.FOLDER / language).glob("*.md")} == slugs, language


@ONCE
def test_what_has_no_translation_is_in_english(ctx: Context) -> None:
    assert {article.language for article in offered(ctx, "xx")} == {SOURCE}


@ONCE
@pytest.mark.parametrize("asked", ["<script>alert(1)</script>", "&lt;", '"onload=', "%", "a" * 500, "\\"])
def test_what_was_asked_for_is_text(visit: Visit, asked: str) -> None:
    page = visit.get("/docs", params={"q": asked})
    assert page.status_code == 200
    assert "<script>alert" not in page.text


def test_an_excerpt_of_marks_is_escaped() -> None:
    html, _, plain = write_html("## Less\n\n`<b>` is *bold* & so on")
    assert "&lt;b&gt;" in html
    excerpt = articles._excerpt(plain, [articles._forms("bold")])
    assert "&lt;b&gt;" in excerpt
    assert "<mark>bold</mark> &amp; so on" in excerpt
