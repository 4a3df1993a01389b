"""Named backgrounds: twelve plain colours and twenty-two drawn scenes, each in endless variants."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from enlight.models import indoor_scenes, land_scenes, sky_and_sea_scenes
from enlight.models.drawing import FloatImage

PLAIN_COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "orange": (247, 140, 30),
    "yellow": (250, 220, 60),
    "green": (50, 160, 70),
    "turquoise": (60, 205, 195),
    "blue": (45, 95, 215),
    "purple": (125, 60, 175),
    "pink": (250, 150, 190),
    "brown": (120, 75, 45),
    "black": (15, 15, 18),
    "gray": (130, 130, 132),
    "white": (248, 248, 246),
}


@dataclass(frozen=True)
class Background:
    """A named background."""

    name: str
    phrases: tuple[str, ...]
    """How a caption places a subject there, the plainest wording first."""
    bare: str
    """The caption of a picture with nothing else in it."""
    draw: Callable[[np.random.Generator, int], FloatImage]


def _plain(rgb: tuple[int, int, int]) -> Callable[[np.random.Generator, int], FloatImage]:
    def draw(rng: np.random.Generator, size_px: int) -> FloatImage:
        return indoor_scenes.plain(rng, size_px, rgb)

    return draw


def _colour(name: str, rgb: tuple[int, int, int]) -> Background:
    article = "an" if name == "orange" else "a"
    wordings = (f"on {article} {name} background", f"with {article} {name} background")
    return Background(name, wordings, f"{article} {name} background", _plain(rgb))


_SCENES: tuple[Background, ...] = (
    Background("beach", ("on the beach", "at the beach", "on a sandy beach"), "the beach", sky_and_sea_scenes.beach),
    Background("snow", ("in the snow", "on snow", "in winter"), "snow", land_scenes.snow),
    Background(
        "grass",
        ("in a grass field", "on the grass", "in a green field", "on a meadow"),
        "a grass field",
        land_scenes.grass,
    ),
    Background(
        "night sky", ("in the night sky", "at night", "under the stars"), "the night sky", sky_and_sea_scenes.night
    ),
    Background("desert", ("in the desert", "on sand dunes"), "the desert", land_scenes.desert),
    Background(
        "under water", ("under water", "in the sea", "in the ocean"), "the sea under water", sky_and_sea_scenes.sea
    ),
    Background(
        "wooden table", ("on a wooden table", "on a wooden floor", "on wood"), "a wooden table", indoor_scenes.wood
    ),
    Background("city", ("in a city", "in the city", "in front of buildings"), "a city", land_scenes.city),
    Background("forest", ("in a forest", "in the forest", "in the woods"), "a forest", land_scenes.forest),
    Background("road", ("on a road", "on the road", "on the street"), "a road", land_scenes.road),
    Background("mountains", ("in the mountains", "in front of mountains"), "mountains", land_scenes.mountains),
    Background(
        "moon", ("on the moon", "on the surface of the moon"), "the surface of the moon", sky_and_sea_scenes.moon
    ),
    Background("room", ("in a room", "in a living room", "at home"), "a room", indoor_scenes.room),
    Background("brick wall", ("in front of a brick wall", "on a brick wall"), "a brick wall", indoor_scenes.bricks),
    Background("sunset", ("at sunset", "in front of a sunset"), "a sunset", sky_and_sea_scenes.sunset),
    Background(
        "checkered floor", ("on a checkered floor", "on a chessboard"), "a checkered floor", indoor_scenes.checks
    ),
    Background(
        "clouds", ("in the clouds", "in the sky", "in a blue sky"), "clouds in the sky", sky_and_sea_scenes.clouds
    ),
    Background("stage", ("on a stage", "in a theater"), "a stage", indoor_scenes.stage),
    Background("flowers", ("in a flower garden", "in a field of flowers"), "a field of flowers", land_scenes.flowers),
    Background("lava", ("on lava", "in a volcano"), "lava", land_scenes.lava),
    Background("rain", ("in the rain", "on a rainy day"), "rain", sky_and_sea_scenes.rain),
    Background("library", ("in a library", "in front of a bookshelf"), "a library", indoor_scenes.library),
)

BACKGROUNDS: tuple[Background, ...] = tuple(_colour(name, rgb) for name, rgb in PLAIN_COLOURS.items()) + _SCENES


def render_background(index: int, variant: int, size_px: int, seed: int) -> np.ndarray:
    """Draws one variant of one background.

    Args:
        index: position in BACKGROUNDS.
        variant: which of the endless variants; the same numbers always draw the same picture.
        size_px: side of the square picture.
        seed: seed of the whole data set.

    Returns:
        (size_px, size_px, 3) uint8.
    """
    rng = np.random.default_rng([seed, index, variant])
    image = BACKGROUNDS[index].draw(rng, 2 * size_px)
    halves = image.reshape(size_px, 2, size_px, 2, 3).mean(axis=(1, 3))
    picture: np.ndarray = np.clip(halves * 255.0 + 0.5, 0, 255).astype(np.uint8)
    return picture
