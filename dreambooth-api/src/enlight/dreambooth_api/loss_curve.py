"""The losses of a training as a curve of a bounded number of points, spread evenly over its steps."""

from __future__ import annotations

MAX_POINTS = 200


class LossCurve:
    """Means over equally many steps; a short training has a point for each loss that is told.

    Args:
        steps: Of the whole training.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._sums: dict[int, tuple[int, float, int]] = {}

    def add(self, step: int, loss: float) -> None:
        """The loss up to ``step`` (from 1), or a point of an earlier curve."""
        part = (step - 1) * MAX_POINTS // max(self._steps, MAX_POINTS)
        last_step, loss_sum, count = self._sums.get(part, (0, 0.0, 0))
        self._sums[part] = (max(step, last_step), loss_sum + loss, count + 1)

    def points(self) -> list[tuple[int, float]]:
        """(last step, mean loss) of each part, by step."""
        return [(step, loss_sum / count) for _, (step, loss_sum, count) in sorted(self._sums.items())]
