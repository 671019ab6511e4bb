"""Charts: what is drawn is in proportion, inside the picture, and in the table as well."""

from __future__ import annotations

import pytest

from clawhaven.web import charts
from clawhaven.web.charts import Series


def test_bars_are_in_proportion_and_stand_on_each_other() -> None:
    chart = charts.draw_bars(["a", "b"], [Series("x", [100, 50]), Series("y", [100, 0])], str)
    first, second, third = chart.bars
    assert first.height == pytest.approx(2 * third.height, abs=0.2)
    assert second.y + second.height == pytest.approx(first.y, abs=0.2)
    assert first.y + first.height == charts.HEIGHT - charts.BOTTOM
    assert second.y >= charts.TOP
    assert [bar.number for bar in chart.bars] == [1, 2, 1]
    assert chart.bars[0].text == "a: x 100"


def test_the_scale_ends_at_a_round_number() -> None:
    for value, top in ((1, 1), (3, 5), (70, 100), (110_000, 200_000)):
        assert charts.draw_bars(["a"], [Series("x", [value])], str).rules[-1][1] == str(top)


def test_a_month_keeps_few_labels_and_stays_inside() -> None:
    labels = [str(day) for day in range(1, 32)]
    chart = charts.draw_bars(labels, [Series("x", range(31))])
    assert len(chart.labels) <= charts.MOST_LABELS
    assert all(bar.x >= charts.LEFT and bar.x + bar.width <= charts.WIDTH for bar in chart.bars)


def test_lines_begin_and_end_at_the_edges() -> None:
    chart = charts.draw_lines(["a", "b", "c"], [Series("x", [0, 10, 5])])
    points = [tuple(map(float, point.split(","))) for point in chart.lines[0].points.split()]
    assert points[0] == (charts.LEFT, charts.HEIGHT - charts.BOTTOM)
    assert points[1][1] == charts.TOP
    assert points[2][0] == charts.WIDTH


def test_the_table_says_the_same() -> None:
    chart = charts.draw_bars(["a"], [Series("x", [1_000_000])], lambda micros: f"${micros // 1_000_000}")
    assert chart.rows == (("a", "$1"),)
    assert chart.names == ("x",)


def test_nothing_and_less_than_nothing_are_drawn_too() -> None:
    assert charts.draw_bars([], [], str).bars == ()
    assert charts.draw_lines([], [], str).lines == ()
    assert charts.draw_bars(["a"], [Series("x", [-5])]).bars == ()
    assert charts.draw_lines(["a"], [Series("x", [0])]).lines[0].points
