"""Sizes that a base model makes well, from the limits that it states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SHAPES = (("Portrait", 3, 4), ("Landscape", 4, 3), ("Tall", 9, 16), ("Wide", 16, 9))
_LARGE = 1.5


@dataclass(frozen=True)
class Size:
    """Width and height, in pixels."""

    name: str
    width_px: int
    height_px: int

    @property
    def value(self) -> str:
        """``64x48``, as the form sends it."""
        return f"{self.width_px}x{self.height_px}"


def sizes(base: Mapping[str, Any]) -> list[Size]:
    """The square that ``base`` was made for, first; then other shapes with about as many pixels, and a larger square.

    Args:
        base: As ``GET /v1/base-models`` lists it.
    """
    native = base["native_size_px"]
    wanted = [("Square", native, native)]
    for name, across, down in _SHAPES:
        scale = native / (across * down) ** 0.5
        wanted.append((name, across * scale, down * scale))
    wanted.append(("Large square", native * _LARGE, native * _LARGE))
    found: dict[str, Size] = {}
    for name, width, height in wanted:
        size = Size(name, _allowed(width, base), _allowed(height, base))
        found.setdefault(size.value, size)
    return list(found.values())


def _allowed(length: float, base: Mapping[str, Any]) -> int:
    """The nearest length that the base takes."""
    multiple = base["size_multiple_px"]
    least = -(-base["min_size_px"] // multiple) * multiple
    most = base["max_size_px"] // multiple * multiple
    return int(min(max(round(length / multiple) * multiple, least), most))
