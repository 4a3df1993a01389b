"""Alpha matting and unmixing of the smallest pictures that there are."""

from __future__ import annotations

import numpy as np
import pytest

from enlight.bgrem.matting import matted, unmixed
from enlight.bgrem.requests import Matting


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 1), (2, 2), (1, 50)])
@pytest.mark.parametrize("level", [128, 255])
def test_the_smallest_pictures_have_colours_and_opacity(size: tuple[int, int], level: int) -> None:
    # Given a picture of a few pixels, all of one colour, and its mask
    colour = np.full((*size, 3), 200, np.uint8)
    mask = np.full(size, level, np.uint8)
    # When its edges are unmixed, or it is matted, which cannot be solved
    for layers in (unmixed(colour, mask), matted(colour, mask, Matting())):
        # Then the colour is its own and the opacity is the mask, up to a rounding
        assert np.abs(layers[0].astype(int) - colour).max() <= 1
        assert np.abs(layers[1].astype(int) - mask).max() <= 1
