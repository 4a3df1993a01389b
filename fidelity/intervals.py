"""Means with bootstrap intervals. Subjects are drawn anew, since pictures of one subject are not independent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from protocol import BOOTSTRAP_SAMPLES, CONFIDENCE, seeded


@dataclass(frozen=True)
class Estimate:
    """A mean over subjects."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: Sequence[float]) -> Estimate:
    """The mean of one value per subject with its percentile interval; NaN bounds for a single subject.

    Raises:
        ValueError: there are no values.
    """
    if not values:
        raise ValueError("no values to average")
    sample = np.asarray(values, dtype=np.float64)
    if len(sample) == 1:
        return Estimate(float(sample[0]), float("nan"), float("nan"))
    drawn = seeded("bootstrap").integers(len(sample), size=(BOOTSTRAP_SAMPLES, len(sample)))
    tail = (1.0 - CONFIDENCE) / 2
    low, high = np.quantile(sample[drawn].mean(axis=1), [tail, 1.0 - tail])
    return Estimate(float(sample.mean()), float(low), float(high))
