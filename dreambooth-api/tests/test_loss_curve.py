from __future__ import annotations

import random
from itertools import pairwise

import pytest

from enlight.dreambooth_api.loss_curve import MAX_POINTS, LossCurve


def test_a_short_training_has_a_point_for_each_loss() -> None:
    curve = LossCurve(100)
    for step in (1, 40, 100):
        curve.add(step, step / 10)
    assert curve.points() == [(1, 0.1), (40, 4.0), (100, 10.0)]


@pytest.mark.parametrize("steps", [200, 201, 1000, 99_999])
def test_a_long_one_has_as_many_as_may_be_spread_evenly(steps: int) -> None:
    curve = LossCurve(steps)
    for step in range(1, steps + 1):
        curve.add(step, float(step))
    points = curve.points()
    assert len(points) == MAX_POINTS
    ends = [0] + [step for step, _ in points]
    widths = {end - begin for begin, end in pairwise(ends)}
    assert (ends[-1], max(widths) - min(widths)) == (steps, min(1, steps % MAX_POINTS))
    # And each is the mean of its part
    assert all(loss == pytest.approx((begin + 1 + end) / 2) for begin, (end, loss) in zip(ends, points, strict=False))


def test_points_of_an_earlier_curve_come_in_wherever_they_are_from() -> None:
    seed = random.randrange(2**32)
    shuffled = [(step, float(step)) for step in range(1, 301)]
    random.Random(seed).shuffle(shuffled)
    curve = LossCurve(300)
    for step, loss in shuffled:
        curve.add(step, loss)
    steps = [step for step, _ in curve.points()]
    assert steps == sorted(steps), f"seed {seed}"
