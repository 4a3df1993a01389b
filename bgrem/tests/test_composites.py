"""Colours and opacity put together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from enlight.bgrem.pure.composites import on_colour, transparent
from enlight.bgrem.requests import WHITE, Colour
from enlight.servicekit.strips import Strips

RNG = np.random.default_rng(3)
COLOUR = RNG.integers(0, 256, (700, 301, 3), np.uint8)  # more rows than one block has
ALPHA = RNG.choice(np.array([0, 1, 100, 254, 255], np.uint8), (700, 301))


def test_colours_stay_straight_wherever_anything_shows() -> None:
    pixels = transparent(COLOUR, ALPHA).whole(Strips(2))
    np.testing.assert_array_equal(pixels[..., 3], ALPHA)
    np.testing.assert_array_equal(pixels[ALPHA > 0][:, :3], COLOUR[ALPHA > 0])


def test_what_was_cut_away_is_gone() -> None:
    assert not transparent(COLOUR, ALPHA).whole(Strips(2))[ALPHA == 0].any()


@pytest.mark.parametrize("background", [WHITE, (0, 0, 0, 255), (12, 200, 77, 255)])
def test_on_a_colour_is_the_mixture_by_opacity(background: Colour) -> None:
    pixels = on_colour(COLOUR, ALPHA, background).whole(Strips(3))
    weight = ALPHA[..., None] / 255
    expected = COLOUR * weight + np.array(background[:3]) * (1 - weight)
    assert pixels.shape == COLOUR.shape
    np.testing.assert_allclose(pixels, expected, atol=1)
    np.testing.assert_array_equal(pixels[ALPHA == 255], COLOUR[ALPHA == 255])
    assert (pixels[ALPHA == 0] == background[:3]).all()


@pytest.mark.parametrize("background", [(255, 0, 0, 128), (9, 9, 9, 0)])
def test_on_a_translucent_colour_is_pillow_s_composite(background: Colour) -> None:
    pixels = on_colour(COLOUR, ALPHA, background).whole(Strips(1))
    cutout = Image.fromarray(transparent(COLOUR, ALPHA).whole(Strips(1)))
    expected = Image.alpha_composite(Image.new("RGBA", cutout.size, background), cutout)
    np.testing.assert_array_equal(pixels, np.asarray(expected))


def test_opacity_is_kept_where_it_is_asked_for() -> None:
    pixels = on_colour(COLOUR, ALPHA, WHITE, keep_alpha=True).whole(Strips(1))
    assert pixels.shape[2] == 4
    assert (pixels[..., 3] == 255).all()
