"""Measures on pixels: how far pictures of one prompt differ, and whether one is a copy of a photo."""

from __future__ import annotations

import numpy as np


def rmse_matrix(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Root of the mean squared difference, (A, B) float64 in levels from 0 to 1, of two stacks of pictures.

    Args:
        first: (A, H, W, 3) uint8.
        second: (B, H, W, 3) uint8.
    """
    left, right = (stack.reshape(len(stack), -1).astype(np.float64) / 255.0 for stack in (first, second))
    distances: np.ndarray = np.sqrt(((left[:, None] - right[None]) ** 2).mean(axis=2))
    return distances


def mean_pairwise_rmse(pictures: np.ndarray) -> float:
    """Mean distance of all pairs of (B, H, W, 3) uint8, B at least 2."""
    upper = np.triu_indices(len(pictures), k=1)
    return float(rmse_matrix(pictures, pictures)[upper].mean())


def nearest_photo_rmse(pictures: np.ndarray, photos: np.ndarray) -> np.ndarray:
    """Distance (B,) of each picture to the photo that is nearest to it."""
    nearest: np.ndarray = rmse_matrix(pictures, photos).min(axis=1)
    return nearest
