"""Photos as the trainer wants them: the centre square, upright, at the training's resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from enlight.dreambooth_api.centre_square import centre_square
from enlight.servicekit.images import decode_image


def load_photo(path: Path, resolution_px: int, *, field: str) -> torch.Tensor:
    """One photo file as pixels (1, 3, resolution_px, resolution_px) float32 in [-1, 1].

    ``field`` names the photo in errors.

    Raises: what ``servicekit.images.decode_image`` raises for a picture that cannot be read.
    """
    return image_to_pixels(centre_square(decode_image(path.read_bytes(), field), resolution_px))


def image_to_pixels(image: Image.Image) -> torch.Tensor:
    """An RGB picture as (1, 3, H, W) float32 in [-1, 1]."""
    return rgb_to_pixels(torch.from_numpy(np.array(image.convert("RGB")))[None])


def rgb_to_pixels(rgb: torch.Tensor) -> torch.Tensor:
    """Pictures (B, H, W, 3) uint8 as pixels (B, 3, H, W) float32 in [-1, 1]."""
    return rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0
