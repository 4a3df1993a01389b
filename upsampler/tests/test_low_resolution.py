"""The picture for the network shows what the result will show, and transparency neither colours nor cuts it."""

from __future__ import annotations

import numpy as np
import pytest
from upsampler_service import photo

from enlight.upsampler.pure.low_resolution import low_resolution, on_white, result_alpha
from enlight.upsampler.pure.sizes import plan_sizes


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (2000, 31), (1, 700), (1, 1), (257, 255)])
def test_it_has_the_padded_size(size: tuple[int, int]) -> None:
    pixels = photo(*size)
    sizes = plan_sizes(*size, resolution_px=1024, multiple=8)
    low = low_resolution(pixels, None, sizes)
    assert low.shape == (sizes.padded[1], sizes.padded[0], 3)
    assert low.dtype == np.uint8


def test_what_a_pixel_shows_lies_where_the_result_has_it() -> None:
    # Given a ramp nine rows high, whose result has nine rows too, while the network's picture has three times four
    height, width = 9, 1000
    ramp = np.repeat(np.linspace(0, 255, height)[:, None], width, axis=1)
    pixels = np.repeat(ramp.round().astype(np.uint8)[..., None], 3, axis=2)
    sizes = plan_sizes(width, height, resolution_px=1024, multiple=8)
    assert (sizes.result[1], sizes.low[1]) == (9, 3)

    # When it is made small
    low = low_resolution(pixels, None, sizes)

    # Then its second row shows the middle of rows 4 to 7; stretched to fit, it would show that of 3 to 6
    assert abs(float(low[1, 100, 0]) - (6 - 0.5) / 8 * 255) < 8


def test_the_padding_goes_on_as_a_mirror() -> None:
    pixels = photo(300, 200)
    low = low_resolution(pixels, None, plan_sizes(300, 200, resolution_px=1024, multiple=8))
    assert np.array_equal(low[171:176], low[166:171][::-1])


def test_the_colour_below_transparency_does_not_matter() -> None:
    # Given a red disc on transparent ground, which is green in one file and black in the other
    y, x = np.mgrid[:300, :300]
    alpha = np.where((x - 150) ** 2 + (y - 150) ** 2 < 100**2, 255, 0).astype(np.uint8)
    sizes = plan_sizes(300, 300, resolution_px=1024, multiple=8)
    lows = []
    for ground in ((0, 255, 0), (0, 0, 0)):
        colour = np.where(alpha[..., None] > 0, (255, 0, 0), ground).astype(np.uint8)
        lows.append(low_resolution(colour, alpha, sizes))

    # Then the network sees red alone: no edge, and nothing that could become a fringe
    for low in lows:
        assert np.array_equal(np.unique(low.reshape(-1, 3), axis=0), [[255, 0, 0]])


def test_a_wholly_transparent_picture_is_no_error() -> None:
    colour = photo(64, 64)
    low = low_resolution(colour, np.zeros((64, 64), np.uint8), plan_sizes(64, 64, resolution_px=1024, multiple=8))
    assert low.shape == (256, 256, 3)


def test_a_wholly_opaque_alpha_changes_nothing() -> None:
    colour, sizes = photo(300, 200), plan_sizes(300, 200, resolution_px=1024, multiple=8)
    opaque = np.full((200, 300), 255, np.uint8)
    assert np.array_equal(low_resolution(colour, opaque, sizes), low_resolution(colour, None, sizes))
    assert np.array_equal(result_alpha(opaque, sizes), np.full((683, 1024), 255))


def test_alpha_keeps_its_edges() -> None:
    alpha = np.zeros((200, 300), np.uint8)
    alpha[:, 150:] = 255
    enlarged = result_alpha(alpha, plan_sizes(300, 200, resolution_px=1024, multiple=8))
    assert enlarged.shape == (683, 1024)
    assert (enlarged[:, :500] == 0).all()
    assert (enlarged[:, 524:] == 255).all()


def test_on_white() -> None:
    colour = np.full((1, 3, 3), 100, np.uint8)
    assert on_white(colour, np.array([[0, 128, 255]], np.uint8))[0, :, 0].tolist() == [255, 177, 100]
