"""Draws the catalogue's subjects with the Noto Color Emoji font (Debian package fonts-noto-color-emoji)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONT_PATH = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
_STRIKE_PX = 109  # the one size of the font's bitmaps
_CANVAS_PX = 160
_MARGIN = 0.02  # empty border on each side, as a share of the picture, so that edges blend when it is turned


def render_glyph(character: str, size_px: int, font_path: Path = FONT_PATH) -> np.ndarray:
    """Draws one glyph centred and as large as it fits.

    Args:
        character: the code point to draw.
        size_px: side of the square picture.
        font_path: a colour bitmap font.

    Returns:
        (size_px, size_px, 4) uint8, red, green and blue multiplied by alpha.

    Raises:
        OSError: the font is not installed.
        ValueError: the font draws nothing for this character.
    """
    font = ImageFont.truetype(str(font_path), _STRIKE_PX)
    canvas = Image.new("RGBA", (_CANVAS_PX, _CANVAS_PX))
    ImageDraw.Draw(canvas).text((10, 10), character, font=font, embedded_color=True)
    box = canvas.getchannel("A").getbbox()
    if box is None:
        raise ValueError(f"the font has no glyph for U+{ord(character):04X}")
    glyph = np.asarray(canvas.crop(box), dtype=np.float32)
    glyph[..., :3] *= glyph[..., 3:] / 255.0
    height, width = glyph.shape[:2]
    scale = size_px * (1 - 2 * _MARGIN) / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    channels = [
        np.asarray(Image.fromarray(glyph[..., channel]).resize(target, Image.Resampling.LANCZOS))
        for channel in range(4)
    ]
    fitted = np.clip(np.stack(channels, axis=-1), 0.0, 255.0)
    fitted[..., :3] = np.minimum(fitted[..., :3], fitted[..., 3:])
    picture = np.zeros((size_px, size_px, 4), dtype=np.uint8)
    top, left = (size_px - target[1]) // 2, (size_px - target[0]) // 2
    picture[top : top + target[1], left : left + target[0]] = (fitted + 0.5).astype(np.uint8)
    return picture
