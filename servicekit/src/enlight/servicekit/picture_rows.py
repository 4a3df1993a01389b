"""A picture whose rows are made when they are asked for, so that what an encoder takes next is in a core's cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from enlight.servicekit.strips import Strips

BLOCK_BYTES = 512 * 1024
"""Rows are made in blocks of about this size."""


@dataclass(frozen=True)
class Rows:
    """A picture by its rows.

    Attributes:
        height_px: Number of rows.
        width_px: Pixels in a row.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).
        make: ``make(first, end)`` gives those rows, (n, W) or (n, W, channels) of uint8 or uint16, from any thread.
        depth: Bits of a sample, 8 or 16.
    """

    height_px: int
    width_px: int
    channels: int
    make: Callable[[int, int], npt.NDArray[Any]]
    depth: int = 8

    @property
    def row_bytes(self) -> int:
        """Bytes of a row's samples."""
        return self.width_px * self.channels * self.depth // 8

    @property
    def block_rows(self) -> int:
        """How many rows are made at once."""
        return max(1, BLOCK_BYTES // self.row_bytes)

    def whole(self, strips: Strips) -> npt.NDArray[Any]:
        """All of it."""
        shape = (self.height_px, self.width_px)
        kind = np.uint8 if self.depth == 8 else np.uint16
        out = np.empty(shape if self.channels == 1 else (*shape, self.channels), kind)

        def fill(first: int, end: int) -> None:
            for start in range(first, end, self.block_rows):
                stop = min(start + self.block_rows, end)
                out[start:stop] = self.make(start, stop)

        strips.map(fill, self.height_px)
        return out


def rows_of(pixels: npt.NDArray[Any]) -> Rows:
    """The rows of pixels that are there: (H, W) or (H, W, channels), uint8 or uint16."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    depth = pixels.dtype.itemsize * 8
    return Rows(pixels.shape[0], pixels.shape[1], channels, lambda first, end: pixels[first:end], depth)
