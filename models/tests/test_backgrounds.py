from __future__ import annotations

import numpy as np
import pytest

from enlight.models.backgrounds import BACKGROUNDS, PLAIN_COLOURS, render_background


def test_at_least_fifteen_backgrounds_with_unique_names_and_phrases() -> None:
    phrases = [phrase for background in BACKGROUNDS for phrase in background.phrases]
    assert len(BACKGROUNDS) >= 15
    assert len({background.name for background in BACKGROUNDS}) == len(BACKGROUNDS)
    assert len(set(phrases)) == len(phrases)


@pytest.mark.parametrize("index", range(len(BACKGROUNDS)), ids=[background.name for background in BACKGROUNDS])
def test_drawing_is_deterministic_and_varied(index: int) -> None:
    # Given a background / When the same variant is drawn twice, and another one
    first = render_background(index, 0, 32, seed=5)
    again = render_background(index, 0, 32, seed=5)
    other = render_background(index, 1, 32, seed=5)
    # Then the same numbers give the same picture and others another one
    assert first.shape == (32, 32, 3)
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_plain_colours_are_their_colour() -> None:
    names = [background.name for background in BACKGROUNDS]
    for name, rgb in PLAIN_COLOURS.items():
        mean = render_background(names.index(name), 3, 16, seed=1).mean(axis=(0, 1))
        assert np.abs(mean - np.array(rgb)).max() < 20, name
