"""Alpha matting and the unmixing of edge colours, as rembg has them, on pymatting.

rembg erodes by a square of any size with a method whose time grows with the square of that size; OpenCV's gives the
same result in a time that does not grow.
"""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from pymatting.alpha.estimate_alpha_cf import estimate_alpha_cf
from pymatting.foreground.estimate_foreground_ml import estimate_foreground_ml

from enlight.bgrem.requests import Matting

Pixels = npt.NDArray[np.uint8]
Layers = tuple[Pixels, Pixels]
"""(H, W, 3) colours and (H, W) opacity."""


def matted(colour: Pixels, mask: Pixels, matting: Matting) -> Layers:
    """The subject's own colours and opacity by closed-form matting; where that cannot be solved (nothing that is
    certain), the mask with unmixed edges.

    Memory: up to 2 kB a pixel.
    """
    try:
        alpha = estimate_alpha_cf(colour / 255.0, trimap(mask, matting) / 255.0)
    except ValueError:
        return unmixed(colour, mask)
    return _with_foreground(colour, alpha)


def unmixed(colour: Pixels, mask: Pixels) -> Layers:
    """The colours that the subject has by itself where the mask says that it is mixed with what lies behind it."""
    return _with_foreground(colour, mask / 255.0)


def trimap(mask: Pixels, matting: Matting) -> Pixels:
    """255 where the subject is for certain, 0 where the background is, 128 between."""
    out = np.full(mask.shape, 128, np.uint8)
    if matting.erode_size_px > 0:
        structure = np.ones((matting.erode_size_px, matting.erode_size_px), np.uint8)
    else:
        structure = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)
    foreground = (mask > matting.foreground_threshold).astype(np.uint8)
    background = (mask < matting.background_threshold).astype(np.uint8)
    # Beyond the picture's edge there is background: it wears the one away, and not the other.
    out[_eroded(foreground, structure, outside=0)] = 255
    out[_eroded(background, structure, outside=1)] = 0
    return out


def _eroded(region: Pixels, structure: Pixels, *, outside: int) -> npt.NDArray[np.bool_]:
    eroded = cv2.erode(region, structure, borderType=cv2.BORDER_CONSTANT, borderValue=outside)
    return cast(npt.NDArray[np.bool_], eroded.astype(bool))


def _with_foreground(colour: Pixels, alpha: npt.NDArray[np.float64]) -> Layers:
    if alpha.size == 1:  # pymatting divides by the steps between its coarsest level and the picture: none
        return colour, _levels(alpha)
    foreground = estimate_foreground_ml(colour / 255.0, alpha)
    return _levels(foreground), _levels(alpha)


def _levels(values: npt.NDArray[np.floating]) -> Pixels:
    levels: Pixels = np.clip(values * 255, 0, 255).astype(np.uint8)
    return levels
