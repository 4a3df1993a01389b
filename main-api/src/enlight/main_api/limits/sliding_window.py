"""How much was used within the last window, in slices of a tenth of it.

What was used leaves the sum when its whole slice lies outside of the window, so that no window of this length ever
holds more than the limit; the price is that it leaves up to a tenth of a window late.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

SLICES = 10


def slice_of(now_s: float, window_s: float) -> int:
    """Number of the slice that this moment lies in."""
    return math.floor(now_s * SLICES / window_s)


def used(slices: Mapping[int, float], newest: int) -> float:
    """What was used in the window that ends with the slice ``newest``."""
    return sum(amount for number, amount in slices.items() if number >= newest - SLICES)


def seconds_until_room(
    slices: Mapping[int, float], now_s: float, *, window_s: float, room_for: float, limit: float
) -> float:
    """Seconds until ``room_for`` more fits below ``limit``, if nobody uses anything in between.

    ``room_for`` 0 asks for any room at all. More than the limit never fits: then it is one window and a slice.
    """
    newest = slice_of(now_s, window_s)
    left = used(slices, newest)
    for number in sorted(slices):
        if number < newest - SLICES:
            continue
        left -= slices[number]
        if fits(left, room_for, limit):
            leaves_at_s = (number + SLICES + 1) * window_s / SLICES
            return max(0.0, leaves_at_s - now_s)
    return window_s * (SLICES + 1) / SLICES


def fits(in_use: float, amount: float, limit: float) -> bool:
    """Whether ``amount`` more may be used; 0 asks for any room at all."""
    return in_use + amount <= limit if amount > 0 else in_use < limit
