"""The operator's name, logo and colours on every page; colours nobody could read stop the start."""

from __future__ import annotations

import dataclasses
import itertools
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from clawhaven.context import Context
from clawhaven.core import colours
from clawhaven.core.settings import Settings
from clawhaven.web import brand
from tests.web.conftest import Visit

PRIMARY, ACCENT = "#0f766e", "#be123c"


def branded(ctx: Context, tmp_path: Path, **changes: object) -> Visit:
    logo = tmp_path / "logo.svg"
    logo.write_text('<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10"/>')
    given = {"brand_name": "Otter & Co", "support_address": "help@otter.example", "brand_logo": logo}
    settings = ctx.settings.model_copy(update=given | {"brand_primary": PRIMARY, "brand_accent": ACCENT} | changes)
    return Visit(dataclasses.replace(ctx, settings=settings))


def test_every_page_wears_the_brand(ctx: Context, tmp_path: Path) -> None:
    visit = branded(ctx, tmp_path)
    for path in ("/", "/sign-in", "/nothing"):
        page = visit.get(path).text
        assert "Otter &amp; Co" in page
        assert "help@otter.example" in page
        assert "Clawhaven" not in page
        logo = re.search(r'src="(/brand/logo\?v=\w+)"', page)
        sheet = re.search(r'href="(/brand\.css\?v=\w+)"', page)
        assert logo is not None
        assert sheet is not None
        assert page.index("site.css") < page.index("/brand.css"), "the brand's colours come last"
    answer = visit.get(logo.group(1))
    assert answer.headers["content-type"] == "image/svg+xml"
    assert "immutable" in answer.headers["cache-control"]
    answer = visit.get(sheet.group(1))
    assert answer.headers["content-type"].startswith("text/css")
    assert f"--primary:{PRIMARY};" in answer.text
    assert f"--call:{ACCENT};" in answer.text


def test_without_a_brand_nothing_is_asked_for(visit: Visit) -> None:
    page = visit.get("/").text
    assert "/brand" not in page
    assert visit.get("/brand/logo").status_code == 404
    assert visit.get("/brand.css").text == ""


def test_colours_can_be_read_in_both_themes() -> None:
    shades = [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in itertools.product((0, 60, 120, 200), repeat=3)]
    for shade in shades:
        if min(colours.contrast(shade, ground) for ground in ("#ffffff", colours.mix(shade, "#ffffff", 0.1))) < 4.5:
            continue
        light, *dark = [
            dict(re.findall(r"--([\w-]+):(#\w+)", line)) for line in brand.sheet_of(shade, shade).split("\n")
        ][:3]
        assert dark[0] == dark[1]
        for theme, ground in ((light, "#ffffff"), (dark[0], "#181726")):
            for text, on in (
                (theme["primary"], ground),
                (theme["primary"], theme["primary-soft"]),
                (theme["primary-foreground"], theme["primary"]),
                (theme["primary-foreground"], theme["primary-hover"]),
                (theme["call-foreground"], theme["call"]),
                (theme["call-foreground"], theme["call-hover"]),
            ):
                assert colours.contrast(text, on) >= 4.5, (shade, text, on)
            assert colours.contrast(theme["call"], ground) >= 3, shade


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("brand_primary", "#ffcc00", "nearest that works"),
        ("brand_primary", "blue", "#rrggbb"),
        ("brand_accent", "#fafafa", "nearest that works"),
        ("brand_logo", "/nowhere/logo.svg", "is not a file"),
        ("terms_file", "/nowhere/terms.md", "is not a file"),
    ],
)
def test_a_brand_that_cannot_be_stops_the_start(name: str, value: str, words: str) -> None:
    with pytest.raises(ValidationError, match=words) as caught:
        Settings.model_validate({name: value})
    assert name in str(caught.value)


def test_the_nearest_colour_it_names_is_taken() -> None:
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"brand_primary": "#ffcc00"})
    near = re.findall(r"#\w{6}", str(caught.value))[-1]
    assert Settings.model_validate({"brand_primary": near}).brand_primary == near


def test_a_logo_is_a_picture(tmp_path: Path) -> None:
    (tmp_path / "logo.txt").write_text("x")
    with pytest.raises(ValidationError, match="a logo ends in"):
        Settings.model_validate({"brand_logo": tmp_path / "logo.txt"})
    (tmp_path / "card.svg").write_text("<svg/>")
    with pytest.raises(ValidationError, match="picture for links ends in"):
        Settings.model_validate({"brand_card": tmp_path / "card.svg"})
