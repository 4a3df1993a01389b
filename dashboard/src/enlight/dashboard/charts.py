"""Where the bars, lines and marks of a chart go. The template draws them, the stylesheet colours them.

A drawing is 100 wide and 100 high and is stretched to its place. Words stand beside it, so that they keep their size on
a phone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MARKS = 4
"""Steps of an axis at most."""
GAP = 0.2
"""Between two bars, of the room that each has."""
LEAST_HEIGHT = 1.5
"""Of a bar that is not zero: one error among thousands of requests is seen, too."""


@dataclass(frozen=True)
class Axis:
    """Values from the bottom up."""

    marks: tuple[float, ...]
    """Round numbers at equal distances, from 0 to the top."""

    @property
    def top(self) -> float:
        """The largest value that has a place."""
        return self.marks[-1]

    def y(self, value: float) -> float:
        """How far below the top ``value`` is."""
        return round(100 * (1 - value / self.top), 2)


@dataclass(frozen=True)
class Bar:
    """A rectangle."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Line:
    """A curve, with holes where there is no value."""

    kind: str
    path: str


@dataclass(frozen=True)
class Stack:
    """The bars at one place, one upon the other, and what they say."""

    title: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Chart:
    """What the template draws, and the same in words."""

    name: str
    summary: str
    """What somebody is told who does not see it."""
    axis: Axis
    marks: tuple[str, ...]
    """The axis in words, from the top down."""
    below: tuple[str, ...]
    """Words at equal distances below it, from edge to edge."""
    legend: tuple[tuple[str, str], ...]
    """(kind, name) of what is drawn."""
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The figures as a table."""
    stacks: tuple[Stack, ...] = ()
    lines: tuple[Line, ...] = ()


def axis_up_to(highest: float, *, whole: bool = False) -> Axis:
    """An axis on which ``highest`` has a place.

    Args:
        highest: The largest value; 0 when there are only zeros.
        whole: Whether there is nothing between two whole numbers.
    """
    wanted = highest / MARKS if highest > 0 else 1 / MARKS
    size = 10.0 ** math.floor(math.log10(wanted))
    # The tolerances: 0.3 / 0.1 is a little less than 3, and must not become another mark.
    step = next(round(size * times, 12) for times in (1, 2, 5, 10) if size * times >= wanted * (1 - 1e-9))
    if whole:
        step = max(1, math.ceil(step))
    count = max(1, math.ceil(highest / step - 1e-9))
    return Axis(tuple(round(step * number, 12) for number in range(count + 1)))


def stack(place: int, places: int, values: Sequence[tuple[str, float]], axis: Axis, title: str) -> Stack:
    """The bars of ``values``, (kind, value) from the bottom up, at one of so many places from left to right."""
    room = 100 / places
    x, width = round(room * (place + GAP / 2), 3), round(room * (1 - GAP), 3)
    bars: list[Bar] = []
    base = 100.0
    for kind, value in values:
        if value > 0:
            height = max(LEAST_HEIGHT, 100 * value / axis.top)
            base = max(0.0, base - height)
            bars.append(Bar(kind, x, round(base, 2), width, round(height, 2)))
    return Stack(title, tuple(bars))


def line(kind: str, points: Sequence[tuple[float, float | None]], axis: Axis) -> Line:
    """A curve through ``points``: how far to the right from 0 to 1, and the value. One that stands alone is a dot."""
    pieces: list[str] = []
    drawn = False
    for position, (x, value) in enumerate(points):
        if value is None:
            drawn = False
            continue
        alone = not drawn and (position + 1 == len(points) or points[position + 1][1] is None)
        pieces.append(f"{'L' if drawn else 'M'}{100 * x:.2f} {axis.y(value):g}{'h0' if alone else ''}")
        drawn = True
    return Line(kind, "".join(pieces))


def words(axis: Axis, in_words: Callable[[float], str]) -> tuple[str, ...]:
    """The marks of ``axis`` from the top down."""
    return tuple(in_words(mark) for mark in reversed(axis.marks))


def counted(value: float) -> str:
    """``1,500``."""
    return f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """``12 ms``, ``1.5 s``, ``90 s``; a dash for None."""
    if value is None:
        return "–"
    if value < 0.9995:
        return f"{value * 1000:.3g} ms" if value else "0 s"
    return f"{value:.3g} s" if value < 999.5 else f"{value:,.0f} s"
