"""The long side becomes the resolution, the aspect is kept, and the network's picture covers the result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enlight.upsampler.pure.sizes import SCALE, plan_sizes

SIDES = st.integers(1, 8192)


@pytest.mark.parametrize(
    ("given_px", "resolution_px", "result", "low", "padded"),
    [
        ((512, 512), 2048, (2048, 2048), (512, 512), (512, 512)),
        ((512, 512), 1024, (1024, 1024), (256, 256), (256, 256)),
        ((4000, 3000), 2048, (2048, 1536), (512, 384), (512, 384)),
        ((300, 200), 1024, (1024, 683), (256, 171), (256, 176)),
        ((200, 300), 1024, (683, 1024), (171, 256), (176, 256)),
        ((8192, 1), 2048, (2048, 1), (512, 1), (512, 8)),
        ((1, 1), 1024, (1024, 1024), (256, 256), (256, 256)),
        ((1920, 1080), 2048, (2048, 1152), (512, 288), (512, 288)),
    ],
)
def test_known_sizes(
    given_px: tuple[int, int],
    resolution_px: int,
    result: tuple[int, int],
    low: tuple[int, int],
    padded: tuple[int, int],
) -> None:
    sizes = plan_sizes(*given_px, resolution_px=resolution_px, multiple=8)
    assert (sizes.result, sizes.low, sizes.padded) == (result, low, padded)


@given(width=SIDES, height=SIDES, resolution=st.sampled_from([1024, 2048]), multiple=st.sampled_from([1, 4, 8]))
def test_any_picture(width: int, height: int, resolution: int, multiple: int) -> None:
    sizes = plan_sizes(width, height, resolution_px=resolution, multiple=multiple)
    assert max(sizes.result) == resolution
    assert (sizes.result[0] >= sizes.result[1]) == (width >= height) or sizes.result[0] == sizes.result[1]
    for side, given_px in zip(sizes.result, (width, height), strict=True):
        assert abs(side - given_px * resolution / max(width, height)) <= 0.5 or side == 1
    for result, low, padded in zip(sizes.result, sizes.low, sizes.padded, strict=True):
        assert 0 <= low * SCALE - result < SCALE
        assert 0 <= padded - low < multiple
        assert padded % multiple == 0
