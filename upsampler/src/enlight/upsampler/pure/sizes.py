"""How large the result is, how large the picture that the network is given, and how far that is padded."""

from __future__ import annotations

from dataclasses import dataclass

SCALE = 4
"""Pixels of the result per pixel of the network's picture, on each side."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of one upscale, each as (width, height) in pixels."""

    result: tuple[int, int]
    low: tuple[int, int]
    """What the network's picture has to show: the result divided by `SCALE`, rounded up."""
    padded: tuple[int, int]
    """The network's picture with its padding on the right and at the bottom."""


def plan_sizes(width_px: int, height_px: int, *, resolution_px: int, multiple: int) -> Sizes:
    """The long side of a picture of ``width_px`` x ``height_px`` becomes ``resolution_px``, its aspect is kept.

    ``multiple``: the sides of the network's picture are multiples of this.
    """
    long_px = max(width_px, height_px)
    width, height = (
        max(1, (2 * side_px * resolution_px + long_px) // (2 * long_px)) for side_px in (width_px, height_px)
    )
    low = _round_up(width, SCALE) // SCALE, _round_up(height, SCALE) // SCALE
    return Sizes((width, height), low, (_round_up(low[0], multiple), _round_up(low[1], multiple)))


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
