"""Real renders: what the subject looks like when nobody had to imagine it, at random places and scales."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from protocol import PHOTO_SCALE, PHOTO_TURN_MAX_DEGREES, PICTURE_SIZE_PX, seeded

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.demo_photos import Shot, take_photo

BACKGROUND_NAMES: tuple[str, ...] = tuple(background.name for background in BACKGROUNDS)
_VARIANTS = 1_000_000


def random_shot(background: str, rng: np.random.Generator, scales: tuple[float, float] = PHOTO_SCALE) -> Shot:
    """A subject somewhere inside the picture, slightly turned, mirrored or not."""
    scale = float(rng.uniform(*scales))
    room = 1.0 - 0.92 * scale  # as the base's own training pictures: hardly ever cut off
    x, y = rng.uniform(-room, room, size=2)
    turn_degrees = float(rng.uniform(-PHOTO_TURN_MAX_DEGREES, PHOTO_TURN_MAX_DEGREES))
    return Shot(background, scale, (float(x), float(y)), turn_degrees, mirrored=bool(rng.random() < 0.5))


def random_variant(rng: np.random.Generator) -> int:
    """Which variant of a background."""
    return int(rng.integers(_VARIANTS))


def renders_on(
    subject: str, backgrounds: Sequence[str], purpose: str, scales: tuple[float, float] = PHOTO_SCALE
) -> np.ndarray:
    """One render of the subject on each background.

    Args:
        subject: a name of the catalogue.
        backgrounds: names of backgrounds.
        purpose: renders for another purpose are other renders.
        scales: longest side of the subject as a share of the picture's, from and to.

    Returns:
        (len(backgrounds), PICTURE_SIZE_PX, PICTURE_SIZE_PX, 3) uint8.
    """
    rng = seeded("renders", purpose, subject)
    return np.stack(
        [
            take_photo(subject, random_shot(name, rng, scales), random_variant(rng), PICTURE_SIZE_PX)
            for name in backgrounds
        ]
    )


def renders_anywhere(
    subject: str, count: int, purpose: str, scales: tuple[float, float] = PHOTO_SCALE
) -> tuple[np.ndarray, list[str]]:
    """Renders of the subject on random backgrounds, (count, H, W, 3) uint8, and the backgrounds' names."""
    rng = seeded("backgrounds", purpose, subject)
    backgrounds = [str(name) for name in rng.choice(BACKGROUND_NAMES, size=count)]
    return renders_on(subject, backgrounds, purpose, scales), backgrounds
