"""Colours and opacity put together, a few rows at a time."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from enlight.bgrem.requests import Colour
from enlight.servicekit.picture_rows import Rows

Pixels = npt.NDArray[np.uint8]


def transparent(colour: Pixels, alpha: Pixels) -> Rows:
    """RGBA of (H, W, 3) colours and an (H, W) opacity, not premultiplied.

    Colours are kept wherever anything shows, and are black where nothing does: what was cut away is gone.
    """

    def make(first: int, end: int) -> Pixels:
        opacity = alpha[first:end]
        pixels = np.empty((*opacity.shape, 4), np.uint8)
        cv2.cvtColor(colour[first:end], cv2.COLOR_RGB2RGBA, dst=pixels)
        cv2.insertChannel(opacity, pixels, 3)
        whole_pixels = pixels.view(np.uint32)[..., 0]
        np.multiply(whole_pixels, opacity != 0, out=whole_pixels)
        return pixels

    height, width = alpha.shape
    return Rows(height, width, 4, make)


def on_colour(colour: Pixels, alpha: Pixels, background: Colour, *, keep_alpha: bool = False) -> Rows:
    """The cut-out on a colour: RGB on an opaque one unless ``keep_alpha``, else RGBA."""
    if background[3] < 255 or keep_alpha:
        return _on_translucent(transparent(colour, alpha), background)
    # What the colour behind adds, by opacity, for each channel.
    behind = (np.arange(255, -1, -1)[:, None] * np.array(background[:3]) / 255).round().astype(np.uint8)

    def make(first: int, end: int) -> Pixels:
        opacity = alpha[first:end]
        three = cv2.merge([opacity] * 3)
        shown = cv2.multiply(colour[first:end], three, scale=1 / 255)
        return cast(Pixels, cv2.add(shown, cv2.LUT(three, behind[None])))

    height, width = alpha.shape
    return Rows(height, width, 3, make)


def _on_translucent(cutout: Rows, background: Colour) -> Rows:
    def make(first: int, end: int) -> Pixels:
        front = Image.fromarray(cutout.make(first, end))
        return np.asarray(Image.alpha_composite(Image.new("RGBA", front.size, background), front))

    return Rows(cutout.height_px, cutout.width_px, 4, make)
