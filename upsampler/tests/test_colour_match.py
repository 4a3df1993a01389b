"""Slow shifts of colour go, detail stays."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as functional

from enlight.upsampler.pure.colours import match_low_frequencies
from enlight.upsampler.pure.windows import Window, blend, plan_grid


def texture(height: int, width: int) -> torch.Tensor:
    return torch.randn((1, 3, height, width), generator=torch.Generator().manual_seed(2)) * 0.2


def test_a_picture_that_agrees_is_left_alone() -> None:
    low = texture(40, 56)
    picture = functional.interpolate(low, scale_factor=4, mode="nearest")
    assert torch.allclose(match_low_frequencies(picture, low, scale=4, sigma_cells=4), picture, atol=1e-5)


@pytest.mark.parametrize("shift", [-0.5, 0.3])
def test_a_shift_of_the_whole_picture_goes_to_its_very_edge(shift: float) -> None:
    low = texture(40, 56)
    picture = functional.interpolate(low, scale_factor=4, mode="nearest")
    matched = match_low_frequencies(picture + shift, low, scale=4, sigma_cells=4)
    assert torch.allclose(matched, picture, atol=1e-4)


def test_fine_detail_stays() -> None:
    low = torch.zeros((1, 3, 64, 64))
    detail = texture(256, 256)
    matched = match_low_frequencies(detail, low, scale=4, sigma_cells=8)
    assert (matched - detail).abs().max() < 0.02


@pytest.mark.parametrize("content", ["flat", "textured"])
def test_the_tones_of_windows_are_gone(content: str) -> None:
    """The low-frequency consistency with the input, at the service's own proportions: overlap 32, sigma 4."""
    low = torch.zeros((1, 3, 256, 256)) if content == "flat" else texture(256, 256)
    right = functional.interpolate(low, scale_factor=4, mode="nearest")
    grid = plan_grid(256, 256, largest=96, overlap=32)
    tones: dict[Window, torch.Tensor] = {}

    def toned(window: Window) -> torch.Tensor:
        tones[window] = torch.randn((1, 3, 1, 1), generator=torch.Generator().manual_seed(len(tones))) * 0.1
        return Window(window.top * 4, window.left * 4, window.height * 4, window.width * 4).of(right) + tones[window]

    blended = blend(grid, toned, scale=4)
    matched = match_low_frequencies(blended, low, scale=4, sigma_cells=4)
    left, before = (matched - right).abs(), (blended - right).abs()
    # Neighbours differ by up to 0.4; what is left of that lies where windows change over, and is not seen
    assert float(before.max()) > 0.2
    assert float(left.max()) < 0.04
    assert float(left.mean()) < 0.04 * float(before.mean())
