"""The part of a photo that a training sees. No torch: the HTTP process judges photos by it, too."""

from __future__ import annotations

from PIL import Image


def centre_square(image: Image.Image, side_px: int) -> Image.Image:
    """The centre square of ``image``, resized to ``side_px``.

    The same as resizing the short side and cropping, but the long side of a panorama is never made.
    """
    short_px = min(image.size)
    left, top = ((length - short_px) / 2 for length in image.size)
    box = (left, top, left + short_px, top + short_px)
    return image.resize((side_px, side_px), Image.Resampling.LANCZOS, box=box)
