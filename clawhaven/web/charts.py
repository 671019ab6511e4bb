"""Charts as numbers for an SVG: bars (stacked) and lines. Drawn by `ui.chart`; nothing here knows colours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH = 720
HEIGHT = 220
LEFT = 76
BOTTOM = 28
TOP = 8
MOST_LABELS = 8


@dataclass(frozen=True, slots=True)
class Series:
    """One row of values; they are written with the chart's own `write`."""

    name: str
    values: Sequence[int]


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; `number` (from 1) says whose series it is, `text` what it stands for."""

    x: float
    y: float
    width: float
    height: float
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class Line:
    """The points of one series, as SVG's `points`."""

    number: int
    points: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything to draw, and the same as a table: a header and rows of text."""

    kind: str
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    rules: tuple[tuple[float, str], ...]
    labels: tuple[tuple[float, str], ...]
    names: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT


def draw_bars(labels: Sequence[str], series: Sequence[Series], write: Callable[[int], str] = str) -> Chart:
    """Bars, the series of one label on top of each other. Values below zero count as zero."""
    sums = [sum(max(one.values[at], 0) for one in series) for at in range(len(labels))]
    top = _round_up(max(sums, default=0))
    slot = (WIDTH - LEFT) / max(len(labels), 1)
    gap = min(slot * 0.25, 8)
    bars = []
    for at, label in enumerate(labels):
        floor = float(HEIGHT - BOTTOM)
        for number, one in enumerate(series, 1):
            tall = _tall(max(one.values[at], 0), top)
            if tall:
                floor -= tall
                text = (
                    f"{label}: {one.name} {write(one.values[at])}"
                    if len(series) > 1
                    else (f"{label}: {write(one.values[at])}")
                )
                bars.append(Bar(_r(LEFT + at * slot + gap / 2), _r(floor), _r(slot - gap), _r(tall), number, text))
    centres = [LEFT + (at + 0.5) * slot for at in range(len(labels))]
    return _chart("bar", tuple(bars), (), top, labels, centres, series, write)


def draw_lines(labels: Sequence[str], series: Sequence[Series], write: Callable[[int], str] = str) -> Chart:
    """One line for each series. Values below zero count as zero."""
    top = _round_up(max((value for one in series for value in one.values), default=0))
    slot = (WIDTH - LEFT) / max(len(labels) - 1, 1)
    places = [LEFT + at * slot for at in range(len(labels))]
    lines = tuple(
        Line(
            number,
            " ".join(
                f"{_r(x)},{_r(HEIGHT - BOTTOM - _tall(max(value, 0), top))}"
                for x, value in zip(places, one.values, strict=True)
            ),
        )
        for number, one in enumerate(series, 1)
    )
    return _chart("line", (), lines, top, labels, places, series, write)


def _chart(
    kind: str,
    bars: tuple[Bar, ...],
    lines: tuple[Line, ...],
    top: int,
    labels: Sequence[str],
    places: Sequence[float],
    series: Sequence[Series],
    write: Callable[[int], str],
) -> Chart:
    step = max(1, -(-len(labels) // MOST_LABELS))
    rules = {value: _r(HEIGHT - BOTTOM - _tall(value, top)) for value in (0, top // 2, top)}
    return Chart(
        kind,
        bars,
        lines,
        tuple((y, write(value)) for value, y in rules.items()),
        tuple((_r(places[at]), labels[at]) for at in range(0, len(labels), step)),
        tuple(one.name for one in series),
        tuple((label, *(write(one.values[at]) for one in series)) for at, label in enumerate(labels)),
    )


def _tall(value: int, top: int) -> float:
    return value * (HEIGHT - BOTTOM - TOP) / top if top else 0.0


def _round_up(value: int) -> int:
    """The next 1, 2, 5 times a power of ten: a scale that people can read."""
    if value <= 0:
        return 0
    power = int("1" + "0" * (len(str(value)) - 1))
    return next(power * step for step in (1, 2, 5, 10) if power * step >= value)


def _r(value: float) -> float:
    return round(value, 1)
