"""Pictures to begin from: brought to the size that is made, and put back where nothing was painted. No torch.

The HTTP process brings them near that size, so that little crosses to the engine. Which limits a trained model's base
has, only the engine knows: there the same function is called again, and leaves what fits as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from enlight.dreambooth_api.bases import SIZE_MULTIPLE_PX
from enlight.dreambooth_api.requests import InitImage
from enlight.servicekit.errors import InvalidField


@dataclass(frozen=True)
class SizeLimits:
    """The sides that are made."""

    min_px: int
    max_px: int
    multiple_px: int = SIZE_MULTIPLE_PX
    """1 where the base model is not known yet: what is rounded twice is no longer the nearest."""


def fit(init: InitImage, limits: SizeLimits, *, width_px: int | None, height_px: int | None) -> InitImage:
    """The picture and its mask, scaled to cover the size and cut to its middle.

    Args:
        init: At the size that it came in.
        limits: Of the size, whoever it is asked by.
        width_px: None: as the picture's shape has it.
        height_px: None: as the picture's shape has it.

    Raises:
        InvalidField: nothing is left of the mask's white.
    """
    own_height_px, own_width_px = init.rgb.shape[:2]
    size = fitted_size((own_width_px, own_height_px), (width_px, height_px), limits)
    mask = None if init.mask is None else _cover(init.mask, size)
    fitted = replace(init, rgb=_cover(init.rgb, size), mask=mask)
    if fitted.repaint is not None and not fitted.repaint.any():
        raise InvalidField.of("mask", "must be white somewhere in the part of the picture that is made")
    return fitted


def fitted_size(
    own_px: tuple[int, int], asked_px: tuple[int | None, int | None], limits: SizeLimits
) -> tuple[int, int]:
    """Width and height to make of a picture: what is asked; what is not follows the picture, which is made smaller or
    larger where a side is out of the limits."""
    scales = [asked / own for own, asked in zip(own_px, asked_px, strict=True) if asked is not None]
    scale = scales[0] if scales else max(min(1.0, limits.max_px / max(own_px)), limits.min_px / min(own_px))
    step_px = limits.multiple_px
    width_px, height_px = (
        min(max(round(own * scale / step_px) * step_px if asked is None else asked, limits.min_px), limits.max_px)
        for own, asked in zip(own_px, asked_px, strict=True)
    )
    return width_px, height_px


def first_step(strength: float, steps: int) -> int:
    """The first of ``steps`` that is run.

    Raises:
        InvalidField: none would be.

    Source: diffusers 0.42, ``StableDiffusionImg2ImgPipeline.get_timesteps``.
    """
    run = min(int(steps * strength), steps)
    if run < 1:
        raise InvalidField.of("strength", f"must be at least {least_strength(steps):g} for {steps} steps")
    return steps - run


def least_strength(steps: int) -> float:
    """The smallest one, in thousandths, with which one of ``steps`` (up to 1000) is run."""
    return math.ceil(1000 / steps) / 1000


def put_back(init: InitImage | None, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``picture`` (H, W, 3) with the pixels of the one that it began from, where these were to be kept."""
    if init is None or init.repaint is None or not init.keep_unmasked:
        return picture
    return np.where(init.repaint[..., None], picture, init.rgb)


def _cover(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[Any]:
    """(H, W) or (H, W, 3) pixels, of this width and height."""
    if pixels.shape[1::-1] == size:
        return pixels
    return np.asarray(ImageOps.fit(Image.fromarray(pixels), size, Image.Resampling.LANCZOS))
