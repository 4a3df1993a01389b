"""Resizing as two small matrix products, so that a part of a picture can be resized as if it were the whole.

The filter is a Lanczos window of 3 lobes, widened when the picture shrinks (no aliasing), with weights that add up to
one: what Pillow's LANCZOS does.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

LOBES = 3


def support_px(size: int, out: int) -> int:
    """Input pixels on each side of an output pixel's centre that count; 0 when nothing is resized."""
    return 0 if size == out else math.ceil(LOBES * max(1.0, size / out)) + 1


def resize_matrix(
    size: int, out: int, *, rows: tuple[int, int], columns: tuple[int, int]
) -> NDArray[np.float32] | None:
    """A part of the matrix (out, size) that resizes a signal of ``size`` values to ``out``.

    Args:
        size: Length of the whole signal.
        out: Length of the whole result.
        rows: First output wanted, and the one behind the last.
        columns: First input at hand, and the one behind the last; it must cover what the outputs need.

    Returns:
        (rows, columns) float32; None where nothing is resized: the outputs are the inputs of the same index.
    """
    if size == out:
        return None
    ratio = size / out
    widening = max(1.0, ratio)
    centres = (np.arange(*rows) + 0.5) * ratio
    positions = np.arange(*columns) + 0.5
    distance = (positions[None, :] - centres[:, None]) / widening
    weights = np.where(np.abs(distance) < LOBES, np.sinc(distance) * np.sinc(distance / LOBES), 0.0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32)
