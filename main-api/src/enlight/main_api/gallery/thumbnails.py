"""Small pictures for lists."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from enlight.servicekit.errors import UpstreamFailed

SIDE_PX = 384
"""Longest side: sharp on a phone with three screen pixels to one of the page's, four columns wide."""
QUALITY = 80


def size_px_of(data: bytes) -> tuple[int, int]:
    """Width and height of a picture that a service of ours encoded; no pixel is decoded. Raises UpstreamFailed."""
    with _opened(data) as picture:
        return picture.size


def thumbnail_of(data: bytes) -> bytes:
    """A WebP of at most `SIDE_PX` a side, transparency kept; never larger than the picture. Raises UpstreamFailed."""
    with _opened(data) as picture:
        small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    small.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=QUALITY, method=2)
    return encoded.getvalue()


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as picture:
            yield picture
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UpstreamFailed("A service gave something else than a picture.") from error
