"""The picture that the network is given, and the transparency of the result."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from enlight.upsampler.pure.sizes import SCALE, Sizes

Pixels = NDArray[np.uint8]

MIN_ALPHA = 16
"""Below this a pixel's colour is what happened to lie under the transparency, or has lost its digits."""


def low_resolution(colour: Pixels, alpha: Pixels | None, sizes: Sizes) -> Pixels:
    """The padded picture (h, w, 3) for the network, of ``colour`` (H, W, 3) and ``alpha`` (H, W).

    Where the result's side is no multiple of `SCALE` the picture goes on at its edge, so that pixel (x, y) here shows
    what pixels ``SCALE * x ...`` of the result show, to fractions of a pixel. Transparent places get the colour of the
    nearest visible one: the network would draw an edge against anything else, and the result would keep a fringe.
    """
    if alpha is None:
        low = _resized(colour, sizes)
    else:
        with_alpha = _resized(np.dstack([colour, alpha]), sizes)  # Pillow weighs the colours by their alpha
        low = _filled(with_alpha[..., :3], with_alpha[..., 3] < MIN_ALPHA)
    below, right = sizes.padded[1] - sizes.low[1], sizes.padded[0] - sizes.low[0]
    return np.pad(low, ((0, below), (0, right), (0, 0)), mode="symmetric")


def result_alpha(alpha: Pixels, sizes: Sizes) -> Pixels:
    """``alpha`` (H, W) at the size of the result, by Lanczos."""
    return np.asarray(Image.fromarray(alpha).resize(sizes.result, Image.Resampling.LANCZOS))


def on_white(colour: Pixels, alpha: Pixels) -> Pixels:
    """``colour`` (H, W, 3) as it looks with ``alpha`` (H, W) on white."""
    share = alpha[..., None].astype(np.uint16)
    return ((colour * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def _resized(pixels: Pixels, sizes: Sizes) -> Pixels:
    """``pixels`` on the network's grid, whose last column and row may reach over the picture's edge."""
    height, width = pixels.shape[:2]
    box_width = width * sizes.low[0] * SCALE / sizes.result[0]
    box_height = height * sizes.low[1] * SCALE / sizes.result[1]
    more = (int(np.ceil(box_height)) - height, int(np.ceil(box_width)) - width)
    extended = np.pad(pixels, ((0, more[0]), (0, more[1]), (0, 0)), mode="edge") if any(more) else pixels
    resized = Image.fromarray(extended).resize(
        sizes.low, Image.Resampling.BICUBIC, box=(0.0, 0.0, box_width, box_height)
    )
    return np.asarray(resized)


def _filled(colour: Pixels, unknown: NDArray[np.bool_]) -> Pixels:
    """``colour`` with each unknown pixel replaced by the nearest known one."""
    if not unknown.any() or unknown.all():
        return np.ascontiguousarray(colour)
    _, labels = cv2.distanceTransformWithLabels(
        unknown.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[~unknown]] = colour[~unknown]
    return np.asarray(colours[labels])
