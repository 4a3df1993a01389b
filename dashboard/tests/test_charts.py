"""Where bars, lines and marks go."""

from __future__ import annotations

import random

import pytest

from enlight.dashboard.charts import LEAST_HEIGHT, Axis, axis_up_to, counted, line, seconds, stack, words


@pytest.mark.parametrize(
    ("highest", "whole", "marks"),
    [
        (0, True, (0, 1)),
        (1, True, (0, 1)),
        (3, True, (0, 1, 2, 3)),
        (4, True, (0, 1, 2, 3, 4)),
        (5, True, (0, 2, 4, 6)),
        (97, True, (0, 50, 100)),
        (1234, True, (0, 500, 1000, 1500)),
        (0, False, (0, 0.5)),
        (0.3, False, (0, 0.1, 0.2, 0.3)),
        (0.0071, False, (0, 0.002, 0.004, 0.006, 0.008)),
        (13.7, False, (0, 5, 10, 15)),
    ],
)
def test_an_axis_has_few_round_marks(highest: float, whole: bool, marks: tuple[float, ...]) -> None:
    assert axis_up_to(highest, whole=whole).marks == marks


def test_every_value_has_a_place_on_its_axis() -> None:
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    for _ in range(2000):
        highest = 10 ** dice.uniform(-6, 9)
        axis = axis_up_to(highest)
        assert axis.top >= highest * (1 - 1e-9), (seed, highest)
        assert 2 <= len(axis.marks) <= 6, (seed, highest)
        assert 0 <= axis.y(highest) <= 60, (seed, highest)  # the chart is not mostly empty


def test_bars_stand_upon_each_other_and_fill_their_places() -> None:
    axis = Axis((0, 5, 10))
    drawn = stack(1, 4, [("", 6), ("bad", 2)], axis, "8 requests")
    below, above = drawn.bars
    assert (below.y, below.height, above.y, above.height) == (40, 60, 20, 20)
    assert below.x > 25
    assert below.x + below.width < 50
    assert (above.kind, above.x, above.width) == ("bad", below.x, below.width)


def test_little_is_seen_beside_much_and_nothing_is_not_drawn() -> None:
    bars = stack(0, 1, [("", 99_999), ("bad", 1), ("other", 0)], axis_up_to(100_000), "").bars
    assert [bar.kind for bar in bars] == ["", "bad"]
    assert bars[1].height == LEAST_HEIGHT
    assert bars[1].y >= 0


def test_a_line_has_holes_and_dots() -> None:
    axis = Axis((0, 1))
    points = [(0, 1.0), (0.25, 0.5), (0.5, None), (0.75, 0.0), (1, None)]
    assert line("", points, axis).path == "M0.00 0L25.00 50M75.00 100h0"
    assert line("", [(0, None)], axis).path == ""


def test_figures_in_words() -> None:
    assert words(Axis((0, 500, 1000)), counted) == ("1,000", "500", "0")
    assert [seconds(value) for value in (None, 0, 0.0123, 0.9999, 1.5, 90, 1234)] == [
        "–",
        "0 s",
        "12.3 ms",
        "1 s",
        "1.5 s",
        "90 s",
        "1,234 s",
    ]
