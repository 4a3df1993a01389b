"""The curve of a training's losses as a drawing: points in a box of 300 by 80."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 300, 80


@dataclass(frozen=True)
class Curve:
    """What the template draws."""

    line: str
    """``points`` of a polyline."""
    area: str
    """The same down to the bottom."""
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
    highest = max(point["loss"] for point in losses) or 1.0
    points = [
        f"{WIDTH * point['step'] / max(1, steps):.1f},{HEIGHT * (1 - 0.95 * point['loss'] / highest):.1f}"
        for point in losses
    ]
    first_x, last_x = points[0].partition(",")[0], points[-1].partition(",")[0]
    line = " ".join(points)
    return Curve(line, f"{first_x},{HEIGHT} {line} {last_x},{HEIGHT}", losses[0]["loss"], losses[-1]["loss"])
