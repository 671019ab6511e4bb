"""Colours and their contrast, against the figures of WCAG."""

from __future__ import annotations

import pytest

from clawhaven.core import colours


@pytest.mark.parametrize(("given", "full"), [("#54c", "#5544cc"), ("#5142CF", "#5142cf"), ("#000000", "#000000")])
def test_colours_are_read(given: str, full: str) -> None:
    assert colours.parse(given) == full


@pytest.mark.parametrize("given", ["5142cf", "#5142c", "red", "#ggg", "", "#5142cf;}"])
def test_what_is_no_colour_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="#rrggbb"):
        colours.parse(given)


@pytest.mark.parametrize(
    ("one", "other", "ratio"),
    [
        ("#000000", "#ffffff", 21.0),
        ("#ffffff", "#ffffff", 1.0),
        ("#777777", "#ffffff", 4.48),
        ("#767676", "#fff", 4.54),
    ],
)
def test_contrast_is_that_of_wcag(one: str, other: str, ratio: float) -> None:
    assert colours.contrast(one, colours.parse(other)) == pytest.approx(ratio, abs=0.01)
    assert colours.contrast(one, colours.parse(other)) == colours.contrast(colours.parse(other), one)


def test_a_colour_moves_only_as_far_as_it_must() -> None:
    assert colours.towards("#5142cf", colours.BLACK, (colours.WHITE,), 4.5) == "#5142cf"
    moved = colours.towards("#ffcc00", colours.BLACK, (colours.WHITE,), 4.5)
    assert 4.5 <= colours.contrast(moved, colours.WHITE) < 4.9
    assert colours.towards("#ffffff", colours.WHITE, (colours.WHITE,), 4.5) == colours.WHITE


def test_mixing() -> None:
    assert colours.mix("#ffffff", "#000000", 0.5) == "#808080"
    assert colours.mix("#123456", "#abcdef", 1) == "#123456"
