"""Transparency: what lies under it must not be seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from enlight.realesrgan.pure.alpha import with_visible_colours_spread


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_hidden_colours_become_those_of_the_nearest_visible_pixel(dtype: Any) -> None:
    colour = np.zeros((5, 9, 3), dtype)
    colour[2, 1], colour[2, 7] = (200, 10, 20), (30, 40, 250)
    alpha = np.zeros((5, 9), dtype)
    alpha[2, 1], alpha[2, 7] = np.iinfo(dtype).max, np.iinfo(dtype).max // 8
    alpha[0, 0], alpha[4, 8] = 1, np.iinfo(dtype).max // 20  # too thin for their colour to mean anything
    spread = with_visible_colours_spread(colour, alpha)
    assert (spread[:, :4] == (200, 10, 20)).all()
    assert (spread[:, 5:] == (30, 40, 250)).all()
    assert spread.dtype == dtype


def test_visible_colours_stay() -> None:
    generator = np.random.default_rng(0)
    colour = generator.integers(0, 256, (20, 30, 3), np.uint8)
    alpha = generator.choice(np.array([0, 16, 255], np.uint8), (20, 30))
    spread = with_visible_colours_spread(colour, alpha)
    assert (spread[alpha > 0] == colour[alpha > 0]).all()


@pytest.mark.parametrize("alpha", [0, 255])
def test_a_picture_that_is_all_hidden_or_all_visible_stays_as_it_is(alpha: int) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    assert (with_visible_colours_spread(colour, np.full((4, 5), alpha, np.uint8)) == colour).all()
