"""Resampling on several cores gives what Pillow gives on one."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from enlight.bgrem.pure.lanczos import lanczos
from enlight.servicekit.strips import Strips

SIZES = [(320, 320), (451, 300), (300, 451), (1, 1), (999, 1001), (320, 77), (33, 320), (1201, 640)]


@pytest.mark.parametrize("source", SIZES)
@pytest.mark.parametrize("target", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_pixel_is_pillow_s(source: tuple[int, int], target: tuple[int, int], channels: int) -> None:
    shape = source[::-1] if channels == 1 else (*source[::-1], 3)
    pixels = np.random.default_rng(sum(source)).integers(0, 256, shape, np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize(target, Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(lanczos(pixels, *target, Strips(3), least_strip_pixels=1), expected)


@pytest.mark.parametrize("seed", range(80))
def test_sizes_at_random_are_pillow_s(seed: int) -> None:
    rng = np.random.default_rng(seed)
    source, target = rng.integers(1, 1500, 2), rng.choice([320, 768, int(rng.integers(1, 1500))], 2)
    pixels = rng.integers(0, 256, (source[1], source[0], 3), np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((target[0], target[1]), Image.Resampling.LANCZOS))
    found = lanczos(pixels, target[0], target[1], Strips(2), least_strip_pixels=1)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(4000, 3000), (3000, 4000), (3001, 2999)])
def test_a_large_photo_s_size_is_pillow_s(size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3), np.uint8)
    expected = np.asarray(Image.fromarray(pixels).resize((320, 320), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(lanczos(pixels, 320, 320, Strips(2)), expected)
