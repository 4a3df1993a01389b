"""Photos made for tests, and what can be wrong with them. No fonts, no downloads."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

DEMO_PHOTOS = sorted((Path(__file__).resolve().parents[3] / "demo/photos").glob("*.png"))


def scene(seed: int = 0, side_px: int = 768, *, subject_at: tuple[float, float] = (0.5, 0.5)) -> Image.Image:
    """A sharp picture: a subject of several shapes before a background of ``seed``."""
    rng = np.random.default_rng(seed)
    full_px = side_px * 2
    picture = Image.new("RGB", (full_px, full_px), _colour(rng, 120, 220))
    draw = ImageDraw.Draw(picture)
    for _ in range(12):
        x, y, half = *rng.uniform(0, full_px, 2), rng.uniform(0.02, 0.15) * full_px
        draw.rectangle((x - half, y - half / 3, x + half, y + half / 3), fill=_colour(rng, 90, 240))
    x, y, half = subject_at[0] * full_px, subject_at[1] * full_px, 0.2 * full_px
    draw.ellipse((x - half, y - half, x + half, y + half), fill=(30, 60, 140))
    draw.polygon([(x, y - half), (x - half / 2, y + half / 3), (x + half / 2, y + half / 3)], fill=(250, 210, 40))
    return picture.resize((side_px, side_px), Image.Resampling.LANCZOS)


def soft_background(side_px: int = 768) -> Image.Image:
    """A sharp subject before a background that is far out of focus."""
    picture = scene(side_px=side_px).filter(ImageFilter.GaussianBlur(side_px / 20))
    left = round(0.3 * side_px)
    picture.paste(scene(side_px=side_px).crop((left, left, side_px - left, side_px - left)), (left, left))
    return picture


def blurred(picture: Image.Image, share: float) -> Image.Image:
    """With a Gaussian blur of this share of its short side."""
    return picture.filter(ImageFilter.GaussianBlur(share * min(picture.size)))


def levels(picture: Image.Image, gain: float, offset: float = 0.0) -> Image.Image:
    """Brighter or darker."""
    return Image.fromarray(np.clip(np.asarray(picture) * gain + offset, 0, 255).astype(np.uint8))


def recompressed(picture: Image.Image, quality: int) -> Image.Image:
    """Through JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


def noise(side_px: int) -> Image.Image:
    """Each value by itself."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side_px, side_px, 3), dtype=np.uint8))


def gradient(side_px: int = 300) -> Image.Image:
    """From black to white."""
    return Image.linear_gradient("L").resize((side_px, side_px)).rotate(30).crop((60, 60, 240, 240)).convert("RGB")


def encoded(picture: Image.Image) -> str:
    """As a request carries it."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _colour(rng: np.random.Generator, low: int, high: int) -> tuple[int, int, int]:
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue
