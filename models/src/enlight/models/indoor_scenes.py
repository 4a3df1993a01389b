"""Scenes indoors, and plain colours: each drawing takes a random generator and a side and returns a picture.

All return (size, size, 3) float in about [0, 1]; y grows downwards, coordinates run from 0 to 1.
"""

from __future__ import annotations

import numpy as np

from enlight.models.drawing import FloatImage, grid, mix, noise, rgb, step, vary


def plain(rng: np.random.Generator, size: int, components: tuple[int, int, int]) -> FloatImage:
    """A flat colour with a trace of a gradient, as paper under a lamp."""
    x, y = grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    slope = (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5)) * rng.uniform(0.0, 0.08)
    colour = vary(rng, rgb(*components), 0.03)
    image: FloatImage = (colour + slope[..., None]).astype(np.float32)
    return image


def wood(rng: np.random.Generator, size: int) -> FloatImage:
    """Planks with grain, seen from above."""
    x, y = grid(size)
    planks = int(rng.integers(4, 7))
    row = np.floor(y * planks)
    tone = rng.uniform(-0.07, 0.07, planks + 1)[row.astype(int)]
    grain = noise(rng, x * 0.6 + row * 0.37, y * 6, 9, 2)
    image = mix(vary(rng, rgb(195, 135, 75)), vary(rng, rgb(135, 82, 40)), grain * 1.3 - 0.15)
    image = image + tone[..., None]
    gap = np.abs(y * planks - np.round(y * planks)) / planks
    return mix(image, rgb(70, 40, 18), step(0.008 - gap))


def room(rng: np.random.Generator, size: int) -> FloatImage:
    """A wall with a window, a skirting board and a floor."""
    x, y = grid(size)
    wall = [(232, 215, 190), (205, 220, 205), (220, 205, 225), (235, 225, 200)][rng.integers(4)]
    image = np.broadcast_to(vary(rng, rgb(*wall), 0.03), (size, size, 3)).astype(np.float32)
    floor = rng.uniform(0.66, 0.78)
    cx, cy, half = rng.uniform(0.15, 0.85), rng.uniform(0.22, 0.34), rng.uniform(0.12, 0.17)
    u, v = np.abs(x - cx) / half, np.abs(y - cy) / half
    image = mix(image, rgb(255, 255, 255), step(1.15 - np.maximum(u, v), 0.05))
    image = mix(
        image,
        vary(rng, rgb(150, 205, 240)),
        step(1.0 - np.maximum(u, v), 0.05) * step(np.minimum(u, v) - 0.09, 0.05),
    )
    boards = mix(rgb(165, 110, 65), rgb(130, 82, 45), noise(rng, x * 0.5, y * 4, 10, 2))
    boards = mix(boards, rgb(95, 58, 30), step(0.02 - np.abs(np.sin((x - 0.5) / (y + 0.1) * 9)) * 0.2, 0.02))
    image = mix(image, boards, step(y - floor))
    return mix(image, rgb(250, 248, 245), step(0.02 - np.abs(y - floor)))


def bricks(rng: np.random.Generator, size: int) -> FloatImage:
    """Red bricks in mortar."""
    x, y = grid(size)
    rows = rng.uniform(8, 11)
    v = y * rows + rng.uniform(0, 1)
    row = np.floor(v)
    u = x * rows * 0.45 + 0.5 * (row % 2) + rng.uniform(0, 1)
    tone = rng.uniform(-0.07, 0.07, (32, 32))[row.astype(int) % 32, np.floor(u).astype(int) % 32]
    image = vary(rng, rgb(175, 80, 60)) + tone[..., None] + 0.06 * (noise(rng, x, y, 40)[..., None] - 0.5)
    mortar = np.maximum(
        step(0.1 - np.minimum(v - row, row + 1 - v), 0.08), step(0.05 - np.minimum(u % 1, 1 - u % 1), 0.04)
    )
    return mix(image.astype(np.float32), rgb(205, 195, 185), mortar)


def checks(rng: np.random.Generator, size: int) -> FloatImage:
    """Black and white tiles."""
    x, y = grid(size)
    count, dx, dy = rng.uniform(4.5, 7.0), rng.uniform(0, 2), rng.uniform(0, 2)
    wave = np.sin(np.pi * (x * count + dx)) * np.sin(np.pi * (y * count + dy))
    return mix(vary(rng, rgb(35, 35, 40), 0.02), vary(rng, rgb(240, 240, 236), 0.02), step(wave, 0.15))


def stage(rng: np.random.Generator, size: int) -> FloatImage:
    """Red curtains, boards, a pool of light."""
    x, y = grid(size)
    folds = 0.5 + 0.5 * np.sin(x * rng.uniform(45, 65) + 2 * noise(rng, x, y * 0.3, 4))
    image = mix(rgb(105, 8, 22), vary(rng, rgb(195, 28, 42)), folds)
    image = mix(image, rgb(225, 175, 60), step(0.03 - np.abs(y - 0.06 - 0.05 * np.abs(np.sin(x * 14)))))
    floor = rng.uniform(0.74, 0.84)
    boards = mix(rgb(150, 95, 50), rgb(110, 66, 34), step(np.sin((x - 0.5) / (y - 0.4) * 16), 0.6))
    image = mix(image, boards, step(y - floor))
    cx = rng.uniform(0.35, 0.65)
    return image + (0.22 * np.exp(-(((x - cx) / 0.3) ** 2) - ((y - 0.7) / 0.5) ** 2))[..., None].astype(np.float32)


def library(rng: np.random.Generator, size: int) -> FloatImage:
    """Shelves full of coloured spines."""
    x, y = grid(size)
    shelves = int(rng.integers(3, 5))
    palette = np.array(
        [(150, 40, 40), (40, 70, 130), (45, 105, 65), (195, 155, 60), (110, 60, 115), (200, 190, 170), (60, 50, 50)]
    )
    image = np.broadcast_to(rgb(58, 34, 18), (size, size, 3)).astype(np.float32)
    for shelf in range(shelves):
        top, bottom, left = shelf / shelves + 0.02, (shelf + 1) / shelves - 0.035, rng.uniform(-0.04, 0.0)
        while left < 1.0:
            width, height = rng.uniform(0.035, 0.075), rng.uniform(0.7, 0.95) * (bottom - top)
            inside = step(x - left, 0.004) * step(left + width - 0.006 - x, 0.004)
            inside = inside * step(y - (bottom - height), 0.004) * step(bottom - y, 0.004)
            image = mix(image, vary(rng, rgb(*palette[rng.integers(len(palette))])), inside)
            left += width
        board = step(0.018 - np.abs(y - bottom - 0.018), 0.006)
        image = mix(image, vary(rng, rgb(140, 92, 52), 0.02), board)
    return image
