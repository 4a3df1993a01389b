"""Slow shifts of colour out of a picture that was computed in windows."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as functional


def match_low_frequencies(picture: torch.Tensor, low: torch.Tensor, *, scale: int, sigma_cells: float) -> torch.Tensor:
    """``picture`` (B, 3, h * scale, w * scale) with its slow changes taken from ``low`` (B, 3, h, w).

    What a Gaussian of ``sigma_cells`` leaves of ``low`` replaces what it leaves of ``picture``: colours and shading
    over more than a few times that distance are the input's, all that is finer stays. Networks that normalise over
    what they see give each window a slightly different tone; with a sigma below the width of the overlap in which
    windows change over, no such step is left.
    """
    difference = low - functional.avg_pool2d(picture, scale)
    slow = _gaussian_blur(difference, sigma_cells)
    return picture + functional.interpolate(slow, scale_factor=scale, mode="bilinear", align_corners=False)


def _gaussian_blur(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    """(B, C, h, w) blurred; beyond the edge there is nothing, and it does not count."""
    reach = math.ceil(3 * sigma)
    place = torch.arange(-reach, reach + 1, dtype=picture.dtype, device=picture.device)
    kernel = torch.exp(-((place / sigma) ** 2) / 2)
    known = torch.ones_like(picture[:, :1])
    return _convolve(picture, kernel) / _convolve(known, kernel)


def _convolve(picture: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    reach, channels = len(kernel) // 2, picture.shape[1]
    down = kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    across = kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1)
    rows = functional.conv2d(picture, down, padding=(reach, 0), groups=channels)
    return functional.conv2d(rows, across, padding=(0, reach), groups=channels)
