"""From what a network says to masks of the picture's size, to the bit as rembg makes them."""

from __future__ import annotations

from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from enlight.bgrem.pure.lanczos import lanczos
from enlight.bgrem.requests import Garment
from enlight.servicekit.strips import Strips

Mask = npt.NDArray[np.uint8]

_GARMENT_CLASSES: dict[Garment, tuple[int, ...]] = {"upper": (1,), "lower": (2,), "full": (3,), "attire": (1, 2, 3)}
ALL_GARMENTS: tuple[Garment, ...] = ("upper", "lower", "full")


def saliency_mask(prediction: npt.NDArray[np.float32], width_px: int, height_px: int, strips: Strips) -> Mask:
    """(H, W) opacity of a (side, side) prediction, stretched so that it uses the whole range.

    A prediction that is the same everywhere shows nothing: the mask is empty.
    """
    low, high = prediction.min(), prediction.max()
    if not high > low:
        return np.zeros((height_px, width_px), np.uint8)
    stretched = (prediction - low) / (high - low)
    return lanczos((stretched.clip(0, 1) * 255).astype(np.uint8), width_px, height_px, strips)


def garment_masks(
    scores: npt.NDArray[np.float32], garments: tuple[Garment, ...], width_px: int, height_px: int, strips: Strips
) -> list[Mask]:
    """An (H, W) mask for each of ``garments`` from (4, side, side) scores of background, upper, lower, full body."""
    classes = lanczos(scores.argmax(axis=0).astype(np.uint8), width_px, height_px, strips)
    masks = []
    for garment in garments:
        # Resampling overshoots beside an edge: what is no class keeps its number, a few levels above black.
        levels = np.arange(256, dtype=np.uint8)
        levels[:4] = 0
        levels[list(_GARMENT_CLASSES[garment])] = 255
        masks.append(levels[classes])
    return masks


def smoothed(mask: Mask) -> Mask:
    """The mask opened by a 3 x 3 cross, blurred with a sigma of 2 pixels and cut at one half: 0 or 255."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, cross)
    blurred = cv2.GaussianBlur(opened.astype(np.float64), (17, 17), 2, borderType=cv2.BORDER_REFLECT)
    return np.where(blurred < 127, 0, 255).astype(np.uint8)


def multiplied(first: Mask, second: Mask) -> Mask:
    """The product of two opacities."""
    return cast(Mask, cv2.multiply(first, second, scale=1 / 255))
