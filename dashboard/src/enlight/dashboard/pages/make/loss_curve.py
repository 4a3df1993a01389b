"""The curve of a training's losses as a drawing: points in a box of 300 by 80."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 80
_OF_THE_NEW = 0.15
"""How much a point weighs in the smooth line: the loss of a single step is mostly noise."""


@dataclass(frozen=True)
class Curve:
    """What the template draws: the ``points`` of polylines and a polygon, and the smooth line's ends in words."""

    line: str
    smooth: str
    area: str
    """The smooth line down to the bottom."""
    first: float
    last: float


def loss_curve(losses: Sequence[Mapping[str, float]], steps: int) -> Curve | None:
    """The drawing; None: there are no two points yet.

    Args:
        losses: ``step`` and ``loss``, by step.
        steps: Of the whole training, so that the curve grows to the right.
    """
    if len(losses) < 2:
        return None
    raw = [point["loss"] for point in losses]
    smooth = list(_smoothed(raw))
    across = [WIDTH * point["step"] / max(1, steps) for point in losses]
    highest = max(raw) or 1.0
    line, smooth_line = _points(across, raw, highest), _points(across, smooth, highest)
    area = f"{across[0]:.1f},{HEIGHT} {smooth_line} {across[-1]:.1f},{HEIGHT}"
    return Curve(line, smooth_line, area, smooth[0], smooth[-1])


def _smoothed(values: Iterable[float]) -> Iterable[float]:
    mean: float | None = None
    for value in values:
        mean = value if mean is None else mean + _OF_THE_NEW * (value - mean)
        yield mean


def _points(across: Sequence[float], values: Sequence[float], highest: float) -> str:
    return " ".join(
        f"{x:.1f},{HEIGHT * (1 - 0.95 * value / highest):.1f}" for x, value in zip(across, values, strict=True)
    )
