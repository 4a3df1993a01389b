"""How large a picture becomes, and through which passes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Size:
    """Of a picture, in pixels."""

    height: int
    width: int

    @property
    def long_side(self) -> int:
        """The longer of the two."""
        return max(self.height, self.width)


@dataclass(frozen=True)
class PassPlan:
    """What is done to a picture.

    Attributes:
        start: Size that the picture is brought to before the network sees it: its own, or less.
        passes: Size after each pass: the network enlarges by its scale, and the result is brought to this.
    """

    start: Size
    passes: tuple[Size, ...]


def fit_long_side(size: Size, long_side: int) -> Size:
    """The size with the same aspect and this long side; no side below 1."""
    factor = long_side / size.long_side
    return Size(max(1, round(size.height * factor)), max(1, round(size.width * factor)))


def plan_passes(size: Size, *, long_side: int, scale: int) -> PassPlan:
    """The passes that bring a picture to ``long_side``.

    There is always one: a network of this family also removes noise and compression artefacts. As many follow as
    are needed to get there, and each result is resized down, never up: to the final size, or to the smallest size
    from which the remaining passes reach it. So what a pass costs is bounded by the answer's size. A picture that is
    larger than what is asked for is brought to that size first.

    Args:
        size: Of the picture.
        long_side: Of the result, in pixels.
        scale: Of one pass, at least 2.
    """
    final = fit_long_side(size, long_side)
    if size.long_side > long_side:
        return PassPlan(final, (final,))
    sides = [long_side]
    while size.long_side * scale < sides[0]:
        sides.insert(0, -(-sides[0] // scale))
    return PassPlan(size, tuple(fit_long_side(size, side) for side in sides))
