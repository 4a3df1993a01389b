"""Writes the demo's five photos of a subject no model knows: `python -m enlight.models.demo_photos --out demo/photos`.

The subject is held out of all training. The photos show it at different places, scales and turns, on backgrounds
that are not among the scenes the demo asks for later. They need the Noto Color Emoji font.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from enlight.models.backgrounds import BACKGROUNDS, render_background
from enlight.models.compose import place_glyphs
from enlight.models.glyphs import render_glyph
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import subject_named

DEMO_SUBJECT = "robot"
_PHOTO_SIZE_PX = 256
_GLYPH_SIZE_PX = 192


@dataclass(frozen=True)
class Shot:
    """How one photo is taken."""

    background: str
    scale: float
    """Longest side of the subject as a share of the picture's side."""
    centre: tuple[float, float]
    """x and y of the subject's centre in [-1, 1]."""
    turn_degrees: float
    mirrored: bool = False


SHOTS: tuple[Shot, ...] = (
    Shot("white", 0.80, (0.0, 0.02), 0.0),
    Shot("wooden table", 0.70, (-0.18, 0.12), -8.0),
    Shot("room", 0.62, (0.22, 0.20), 5.0, mirrored=True),
    Shot("turquoise", 0.72, (0.12, -0.10), 10.0),
    Shot("brick wall", 0.66, (-0.2, -0.12), -4.0, mirrored=True),
)


def take_photo(subject_name: str, shot: Shot, variant: int, size_px: int = _PHOTO_SIZE_PX) -> np.ndarray:
    """Draws one photo of a subject.

    Args:
        subject_name: a name of the catalogue.
        shot: place, scale and background.
        variant: which variant of the background.
        size_px: side of the photo.

    Returns:
        (size_px, size_px, 3) uint8.

    Raises:
        KeyError: no such subject or background.
        OSError: the font is not installed.
    """
    names = [background.name for background in BACKGROUNDS]
    if shot.background not in names:
        raise KeyError(shot.background)
    seed = RecipeSettings().seed + 1  # not the training's variants
    below = render_background(names.index(shot.background), variant, size_px, seed)
    glyph = render_glyph(subject_named(subject_name).character, _GLYPH_SIZE_PX)
    pixels = place_glyphs(
        torch.from_numpy(glyph).permute(2, 0, 1)[None].float() / 255.0,
        torch.from_numpy(below).permute(2, 0, 1)[None].float() / 255.0,
        torch.tensor([shot.scale]),
        torch.tensor([shot.centre]),
        torch.tensor([math.radians(shot.turn_degrees)]),
        torch.tensor([shot.mirrored]),
    )
    return (pixels[0].clamp(0, 1) * 255 + 0.5).byte().permute(1, 2, 0).numpy()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--subject", default=DEMO_SUBJECT)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for number, shot in enumerate(SHOTS, start=1):
        photo = take_photo(arguments.subject, shot, number)
        name = f"{arguments.subject.replace(' ', '-')}-{number}.png"
        Image.fromarray(photo).save(arguments.out / name, optimize=True)


if __name__ == "__main__":
    main()
