"""Terms, privacy notice and imprint from the operator's files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from clawhaven.context import Context
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


@pytest.mark.parametrize("name", NAMES)
def test_without_a_file_there_is_no_page_and_no_link(visit: Visit, name: str) -> None:
    assert visit.get(f"/{name}").status_code == 404
    assert f'href="/{name}"' not in visit.get("/").text
