"""Every pair of text and ground in the tokens can be read, in both themes."""

from __future__ import annotations

import re

import pytest

from clawhaven.core import colours
from tests.house.source import ROOT

SOURCE = (ROOT / "assets" / "css" / "tokens.css").read_text()
LIGHT, DARK = (
    dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", part))
    for part in SOURCE.split(":root {", 1)[1].split("@theme", 1)[0].split("@variant dark")
)

TEXT = [
    ("foreground", "background"),
    ("foreground", "card"),
    ("foreground", "muted"),
    ("card-foreground", "card"),
    ("muted-foreground", "background"),
    ("muted-foreground", "card"),
    ("muted-foreground", "muted"),
    ("muted-foreground", "primary-soft"),
    ("foreground", "primary-soft"),
    ("foreground", "live-soft"),
    ("foreground", "warn-soft"),
    ("foreground", "destructive-soft"),
    ("primary", "background"),
    ("primary", "card"),
    ("primary", "primary-soft"),
    ("primary-foreground", "primary"),
    ("primary-foreground", "primary-hover"),
    ("call-foreground", "call"),
    ("call-foreground", "call-hover"),
    ("live", "live-soft"),
    ("live", "card"),
    ("warn", "warn-soft"),
    ("warn", "card"),
    ("destructive", "destructive-soft"),
    ("destructive", "card"),
    ("destructive", "background"),
    ("destructive-foreground", "destructive"),
    ("destructive-foreground", "destructive-hover"),
    ("code-foreground", "code"),
    ("code-bad", "code"),
    ("code-warn", "code"),
]
EDGES = [("input", "card"), ("input", "background"), ("ring", "card"), ("ring", "background"), ("call", "background")]


def test_both_themes_are_complete() -> None:
    assert set(LIGHT) == set(DARK)
    assert len(LIGHT) >= 25


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), TEXT)
def test_text_can_be_read(theme: dict[str, str], text: str, ground: str) -> None:
    assert colours.contrast(theme[text], theme[ground]) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("edge", "ground"), EDGES)
def test_edges_can_be_seen(theme: dict[str, str], edge: str, ground: str) -> None:
    assert colours.contrast(theme[edge], theme[ground]) >= 3
