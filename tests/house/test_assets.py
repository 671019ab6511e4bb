"""What is vendored is what the sources give, and stays small."""

from __future__ import annotations

import gzip
import re

import pytest

from assets import build
from tests.conftest import skip_or_fail
from tests.house.source import ROOT

STATIC = build.WEB / "static"


def test_vendored_files_are_what_the_sources_give() -> None:
    if not build.is_installed():
        skip_or_fail("The packages of assets/package.json were not found", "make css")
    assert build.stale() == [], "run: make css"


@pytest.mark.parametrize(
    ("name", "kilobytes"),
    [
        ("site.css", 16),
        ("site.js", 3),
        ("htmx.js", 15),
        ("talk.js", 2),
        ("chat.js", 2),
        ("progress.js", 2),
        ("editor.js", 105),
    ],
)
def test_files_stay_small_over_the_wire(name: str, kilobytes: int) -> None:
    assert len(gzip.compress((STATIC / name).read_bytes(), 6)) <= kilobytes * 1024


def test_nothing_comes_from_elsewhere() -> None:
    sheet = (STATIC / "site.css").read_text()
    assert "@import" not in sheet
    assert not re.findall(r"url\((?!data:|\"data:)[^)]*\)", sheet)


def test_licences_are_told() -> None:
    text = (STATIC / "LICENCES.txt").read_text()
    for name in ("Tailwind CSS", "Basecoat", "htmx", "Lucide", "CodeMirror"):
        assert name in text


def test_versions_are_exact_and_no_address_is_written_down() -> None:
    package = (ROOT / "assets" / "package.json").read_text()
    versions = re.findall(r'": "(\d[^"]*)"', package.split("devDependencies")[1])
    assert len(versions) >= 5
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert "resolved" not in (ROOT / "assets" / "package-lock.json").read_text()
