"""A picture in overlapping windows: which they are, and how what was computed in each becomes one again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Window:
    """A part of a picture, in cells."""

    top: int
    left: int
    height: int
    width: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """This part of (..., H, W)."""
        return tensor[..., self.top : self.top + self.height, self.left : self.left + self.width]


@dataclass(frozen=True)
class Axis:
    """Windows along one side: all of the same size, each overlapping only its neighbours."""

    length: int
    size: int
    starts: tuple[int, ...]

    @property
    def overlap(self) -> int:
        """Cells that the two neighbours with the least in common share; 0 for a single window."""
        return min((start + self.size - following for start, following in pairwise(self.starts)), default=0)

    def weights(self, scale: int) -> list[torch.Tensor]:
        """What each window counts along this side, (size * scale,) each, with ``scale`` pixels per cell.

        The weights of all windows add up to 1 at every pixel. Within an overlap they change smoothly, but for an eighth
        on each side, which belongs to the window that has it farther from its edge, where the network sees padding.
        """
        rows = [torch.ones(self.size * scale, dtype=torch.float64) for _ in self.starts]
        for index, (start, following) in enumerate(pairwise(self.starts)):
            shared = (start + self.size - following) * scale
            place = (torch.arange(shared, dtype=torch.float64) + 0.5) / shared
            rising = torch.sin(torch.clamp((place - 1 / 8) * 4 / 3, 0, 1) * math.pi / 2) ** 2
            rows[index][-shared:] = 1 - rising
            rows[index + 1][:shared] = rising
        return [row.to(torch.float32) for row in rows]


@dataclass(frozen=True)
class Grid:
    """Windows over a picture."""

    rows: Axis
    columns: Axis

    @property
    def count(self) -> int:
        """Windows in all."""
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def overlap(self) -> int:
        """Cells of the narrowest overlap; 0 for a single window."""
        return min((axis.overlap for axis in (self.rows, self.columns) if axis.overlap), default=0)

    def windows(self) -> Iterator[Window]:
        """From left to right, then down."""
        for top in self.rows.starts:
            for left in self.columns.starts:
                yield Window(top, left, self.rows.size, self.columns.size)


def plan_axis(length: int, *, largest: int, overlap: int, multiple: int = 1) -> Axis:
    """Windows of at most ``largest`` cells over ``length`` cells.

    No more of them than needed and none larger than needed, so that they share the work evenly. Neighbours overlap by
    ``overlap`` cells, or less by under ``multiple``. Starts and sizes are multiples of ``multiple``.

    Raises:
        ValueError: the window cannot have this overlap, or the lengths are no multiples.
    """
    if length % multiple or largest % multiple:
        raise ValueError(f"{length} and {largest} have to be multiples of {multiple}")
    if length <= largest:
        return Axis(length, length, (0,))
    if not multiple <= overlap <= largest // 2 - multiple:
        raise ValueError(f"windows of {largest} cannot overlap by {overlap}")
    count = math.ceil((length - overlap) / (largest - overlap))
    size = math.ceil(math.ceil((length + (count - 1) * overlap) / count) / multiple) * multiple
    starts = (index * (length - size) // (count - 1) // multiple * multiple for index in range(count))
    return Axis(length, size, tuple(starts))


def plan_grid(height: int, width: int, *, largest: int, overlap: int, multiple: int = 1) -> Grid:
    """Windows over ``height`` x ``width`` cells; see `plan_axis`."""
    return Grid(
        plan_axis(height, largest=largest, overlap=overlap, multiple=multiple),
        plan_axis(width, largest=largest, overlap=overlap, multiple=multiple),
    )


def blend(grid: Grid, compute: Callable[[Window], torch.Tensor], *, scale: int = 1) -> torch.Tensor:
    """What ``compute`` gives for each window, (B, C, height * scale, width * scale), as one (B, C, H, W) tensor.

    Several windows are added up in float32; a single one is returned as it is.
    """
    if grid.count == 1:
        return compute(next(grid.windows()))
    vertical = dict(zip(grid.rows.starts, grid.rows.weights(scale), strict=True))
    horizontal = dict(zip(grid.columns.starts, grid.columns.weights(scale), strict=True))
    whole: torch.Tensor | None = None
    for window in grid.windows():
        part = compute(window)
        if whole is None:
            shape = (*part.shape[:2], grid.rows.length * scale, grid.columns.length * scale)
            whole = torch.zeros(shape, dtype=torch.float32, device=part.device)
        weight = (vertical[window.top][:, None] * horizontal[window.left]).to(part.device)
        scaled = Window(window.top * scale, window.left * scale, window.height * scale, window.width * scale)
        scaled.of(whole).add_(part.float() * weight)
    assert whole is not None
    return whole
