"""Brushes for the drawn backgrounds: coordinates, colours, soft edges, noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.floating[Any]]


def grid(size: int) -> tuple[FloatImage, FloatImage]:
    """x and y of every pixel centre, (size, size) each, in [0, 1]."""
    axis = (np.arange(size, dtype=np.float32) + 0.5) / size
    y, x = np.meshgrid(axis, axis, indexing="ij")
    return x, y


def rgb(red: float, green: float, blue: float) -> FloatImage:
    """A colour, (3,) in [0, 1], from components in [0, 255]."""
    return np.array([red / 255.0, green / 255.0, blue / 255.0], dtype=np.float32)


def mix(first: FloatImage, second: FloatImage, share: FloatImage) -> FloatImage:
    """Blends two pictures or colours; `share` (H, W) is the second one's weight, clipped to [0, 1]."""
    weight = np.clip(share, 0.0, 1.0)[..., None].astype(np.float32)
    blend: FloatImage = (first * (1.0 - weight) + second * weight).astype(np.float32)
    return blend


def noise(rng: np.random.Generator, x: FloatImage, y: FloatImage, cells: float, octaves: int = 1) -> FloatImage:
    """Smooth value noise in [0, 1]."""
    total = np.zeros(np.broadcast(x, y).shape, dtype=np.float32)
    weight_sum = 0.0
    for octave in range(octaves):
        scale = cells * 2**octave
        count = int(np.ceil(scale * max(float(x.max()), float(y.max()), 1.0))) + 2
        lattice = rng.random((count, count), dtype=np.float32)
        u, v = np.abs(x) * scale, np.abs(y) * scale
        i, j = np.minimum(u.astype(int), count - 2), np.minimum(v.astype(int), count - 2)
        fu, fv = u - i, v - j
        fu, fv = fu * fu * (3 - 2 * fu), fv * fv * (3 - 2 * fv)
        top = lattice[j, i] * (1 - fu) + lattice[j, i + 1] * fu
        low = lattice[j + 1, i] * (1 - fu) + lattice[j + 1, i + 1] * fu
        weight = 0.5**octave
        total += weight * (top * (1 - fv) + low * fv)
        weight_sum += weight
    return (total / weight_sum).astype(np.float32)


def step(values: FloatImage, softness: float = 0.01) -> FloatImage:
    """Turns signed distances into a soft mask: 1 inside (positive), 0 outside."""
    mask: FloatImage = np.clip(values / softness + 0.5, 0.0, 1.0).astype(np.float32)
    return mask


def vary(rng: np.random.Generator, colour: FloatImage, amount: float = 0.04) -> FloatImage:
    """A colour moved a little at random."""
    moved: FloatImage = np.clip(colour + rng.uniform(-amount, amount, 3), 0.0, 1.0).astype(np.float32)
    return moved


def sky(rng: np.random.Generator, y: FloatImage) -> FloatImage:
    """A blue sky that pales downwards."""
    top, low = vary(rng, rgb(95, 165, 235)), vary(rng, rgb(190, 225, 250))
    return mix(top, low, y * rng.uniform(1.2, 2.0))
