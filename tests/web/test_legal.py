"""Terms, privacy notice and imprint from the operator's files."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from clawhaven.context import Context
from clawhaven.web.languages import LANGUAGES
from clawhaven.web.legal import SHIPPED
from tests.web.conftest import Visit

NAMES = ("terms", "privacy", "imprint")


def told(ctx: Context, tmp_path: Path, text: str) -> Visit:
    path = tmp_path / "text.md"
    path.write_text(text)
    settings = ctx.settings.model_copy(update={f"{name}_file": path for name in NAMES})
    return Visit(dataclasses.replace(ctx, settings=settings))


@pytest.mark.parametrize("name", NAMES)
def test_a_text_is_shown_and_linked_everywhere(ctx: Context, tmp_path: Path, name: str) -> None:
    visit = told(ctx, tmp_path, "Be *kind*.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n")
    page = visit.get(f"/{name}")
    assert page.status_code == 200
    assert "Be <em>kind</em>." in page.text
    assert "<table>" in page.text
    assert page.text.count("<h1>") == 1
    assert f'href="/{name}"' in visit.get("/").text


def test_its_own_heading_is_the_only_one(ctx: Context, tmp_path: Path) -> None:
    page = told(ctx, tmp_path, "# Our rules\n\nText.").get("/terms").text
    assert page.count("<h1>") == 1
    assert "Our rules" in page


def test_html_in_it_is_text_and_bad_addresses_are_no_links(ctx: Context, tmp_path: Path) -> None:
    page = told(ctx, tmp_path, "<script>alert(1)</script>\n\n[x](javascript:alert(1))").get("/terms").text
    assert "<script>alert" not in page
    assert 'href="javascript' not in page


def test_a_correction_shows_at_once_and_a_lost_file_is_explained(ctx: Context, tmp_path: Path) -> None:
    visit = told(ctx, tmp_path, "Old.")
    assert "Old." in visit.get("/terms").text
    (tmp_path / "text.md").write_text("New.")
    assert "New." in visit.get("/terms").text
    (tmp_path / "text.md").unlink()
    assert visit.get("/terms").status_code == 503


def test_without_a_file_of_the_operators_ours_is_shown(visit: Visit) -> None:
    for name in ("terms", "privacy"):
        page = visit.get(f"/{name}")
        assert page.status_code == 200
        assert page.text.count("<h1>") == 1
        assert "Clawhaven (“we”)" in page.text
        assert "support@localhost" in page.text
        assert not re.search(r"\{[a-z_]+\}", page.text.partition("<article")[2])
        assert f'href="/{name}"' in visit.get("/").text
    assert "After 14 days without a payment" in visit.get("/terms").text


def test_without_a_file_there_is_no_imprint_and_no_link_to_it(visit: Visit) -> None:
    assert visit.get("/imprint").status_code == 404
    assert 'href="/imprint"' not in visit.get("/").text


def test_ours_are_in_the_readers_language_and_say_the_same(visit: Visit) -> None:
    for name in ("terms", "privacy"):
        page = visit.get(f"/{name}", headers={"accept-language": "de"}).text
        assert 'lang="de"' in page.partition("<article")[2].partition(">")[0]
        assert "Clawhaven („wir“)" in page
        assert not re.search(r"\{[a-z_]+\}", page.partition("<article")[2])
        texts = [(SHIPPED / language / f"{name}.md").read_text() for language in LANGUAGES]
        for pattern in (r"\]\([^)]+\)", r"(?m)^#+ ", r"\{[a-z_]+\}", r"(?m)^(?:\||- )"):
            assert len({tuple(sorted(re.findall(pattern, text))) for text in texts}) == 1, pattern


@pytest.mark.parametrize("language", LANGUAGES)
def test_our_texts_lead_to_pages_there_are(visit: Visit, language: str) -> None:
    for name in ("terms", "privacy"):
        page = visit.get(f"/{name}", headers={"accept-language": language}).text
        article = page.partition("<article")[2].partition("</article>")[0]
        for link in re.findall(r'href="(/[^"]*)"', article):
            assert visit.get(link).status_code == 200, link
