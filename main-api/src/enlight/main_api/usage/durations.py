"""How long answers took, as counts of ranges: little to keep, and added up like any numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

_SHORTEST_S = 0.001
_RATIO = 1.1
"""Of a range's end to its begin: a percentile is right within 5 %."""
_LONGEST = 185
"""Number of the last range; it ends at 12 hours."""


def range_of(seconds: float) -> int:
    """Number of the range; 0 is for a millisecond and less."""
    if seconds <= _SHORTEST_S:
        return 0
    return min(_LONGEST, math.ceil(math.log(seconds / _SHORTEST_S, _RATIO)))


def percentile_s(counts: Mapping[int, int], share: float) -> float | None:
    """The duration that ``share`` of all are not longer than; None of nothing.

    Args:
        counts: By the number of the range.
        share: Above 0, at most 1.
    """
    left = math.ceil(share * sum(counts.values()))
    for number in sorted(counts):
        left -= counts[number]
        if left <= 0:
            return _middle_s(number)
    return None


def _middle_s(number: int) -> float:
    return float(f"{_SHORTEST_S * _RATIO ** (max(0.5, number) - 0.5):.3g}")
