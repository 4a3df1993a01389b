"""The photos that a user of the service would send: five views of the subject, none in a scene asked for later."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from prompts import SCENES
from protocol import PHOTO_SIZE_PX, PHOTOS_PER_SUBJECT, PICTURE_SIZE_PX, seeded
from renders import BACKGROUND_NAMES, random_shot, random_variant

from enlight.dreambooth_api.photos import load_photo
from enlight.models.demo_photos import take_photo

_PHOTO_BACKGROUNDS = tuple(name for name in BACKGROUND_NAMES if name not in dict(SCENES))


def photo_backgrounds(subject: str) -> list[str]:
    """Where the subject's photos are taken: all different, and none that a prompt asks for."""
    order = seeded("photo backgrounds", subject).permutation(len(_PHOTO_BACKGROUNDS))
    return [_PHOTO_BACKGROUNDS[index] for index in order[:PHOTOS_PER_SUBJECT]]


def write_photos(subject: str, folder: Path) -> tuple[Path, ...]:
    """Takes the photos and writes them as PNG files into `folder`, which exists."""
    rng, paths = seeded("photos", subject), []
    for number, background in enumerate(photo_backgrounds(subject)):
        pixels = take_photo(subject, random_shot(background, rng), random_variant(rng), PHOTO_SIZE_PX)
        path = folder / f"{number:02d}.png"
        Image.fromarray(pixels).save(path)
        paths.append(path)
    return tuple(paths)


def as_the_trainer_sees(photos: tuple[Path, ...]) -> np.ndarray:
    """The photos as (B, PICTURE_SIZE_PX, PICTURE_SIZE_PX, 3) uint8, read as the trainer reads them."""
    pixels = [load_photo(path, PICTURE_SIZE_PX, field=path.name)[0].permute(1, 2, 0).numpy() for path in photos]
    return np.clip(np.stack(pixels) * 127.5 + 128.0, 0, 255).astype(np.uint8)
