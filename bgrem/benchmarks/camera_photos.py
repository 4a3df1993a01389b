"""Photos of scikit-image's as a camera would have taken them: enlarged, with grain, as JPEG files."""

from __future__ import annotations

import io

import numpy as np
import skimage.data
from PIL import Image

GRAIN = 3.0
"""Standard deviation of the grain, in levels: an enlarged photograph has none, and a camera's always has."""


def camera_file(photo: str, size: tuple[int, int]) -> bytes:
    """The JPEG of a photo, by its name in ``skimage.data``, at this width and height."""
    picture = Image.fromarray(getattr(skimage.data, photo)()).resize(size, Image.Resampling.LANCZOS)
    grain = np.random.default_rng(0).normal(0, GRAIN, (size[1], size[0], 3))
    pixels = np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def fitted_size(photo: str, side_px: int) -> tuple[int, int]:
    """Width and height of a photo whose long side is ``side_px``."""
    height, width = getattr(skimage.data, photo)().shape[:2]
    scale = side_px / max(width, height)
    return round(width * scale), round(height * scale)
