"""Pillow's Lanczos resampling on several cores, to the bit.

Pillow resamples along the rows, rounds to 8 bits, then along the columns; from release 13 on the other way round for
some sizes, when that is less work. A pass works on each line by itself, so that lines can be shared out where the
order is known. Pillow's argument `box` would be the obvious way to share a picture out; it is rounded to single
precision, and some pixels differ.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from PIL import Image

from enlight.servicekit.strips import Strips

Pixels = npt.NDArray[np.uint8]
LEAST_STRIP_PIXELS = 3_000_000
"""Of the larger picture. Shorter strips are not worth their threads: memory is asked for and given back in each, for
which threads wait for one another."""


def lanczos(
    pixels: Pixels, width_px: int, height_px: int, strips: Strips, *, least_strip_pixels: int = LEAST_STRIP_PIXELS
) -> Pixels:
    """(H, W) or (H, W, 3) pixels brought to another size."""
    height, width = pixels.shape[:2]
    if width_px <= width and height_px <= height and width * height_px >= height * width_px:
        # Rows first, as the width shrinks at least as much as the height. Most of the work is in the first pass,
        # which sees every pixel: its rows are shared out.
        narrow = strips.map(
            lambda first, end: _resized(pixels[first:end], width_px, end - first),
            height,
            least_lines=max(1, least_strip_pixels // width),
        )
        return _resized(np.concatenate(narrow), width_px, height_px)
    if width_px >= width and height_px >= height:
        # Rows first. Most of the work is in the second pass, which makes every pixel: its columns are shared out.
        wide = _resized(pixels, width_px, height)
        out = np.empty((height_px, *wide.shape[1:]), np.uint8)

        def columns(first: int, end: int) -> None:
            part = np.ascontiguousarray(wide[:, first:end])
            out[:, first:end] = _resized(part, end - first, height_px)

        strips.map(columns, width_px, least_lines=max(1, least_strip_pixels // height_px))
        return out
    return _resized(pixels, width_px, height_px)


def _resized(pixels: Pixels, width_px: int, height_px: int) -> Pixels:
    return np.asarray(Image.fromarray(pixels).resize((width_px, height_px), Image.Resampling.LANCZOS))
