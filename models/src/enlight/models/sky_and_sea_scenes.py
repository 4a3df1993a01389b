"""Scenes of sky, water and space: each drawing takes a random generator and a side and returns a picture.

All return (size, size, 3) float in about [0, 1]; y grows downwards, coordinates run from 0 to 1.
"""

from __future__ import annotations

import numpy as np

from enlight.models.drawing import FloatImage, grid, mix, noise, rgb, sky, step, vary


def beach(rng: np.random.Generator, size: int) -> FloatImage:
    """Sky, a band of sea with foam, sand below."""
    x, y = grid(size)
    horizon, shore = rng.uniform(0.2, 0.4), rng.uniform(0.5, 0.68)
    edge = shore + 0.03 * np.sin(x * rng.uniform(4, 9) + rng.uniform(0, 6))
    sea = mix(vary(rng, rgb(25, 110, 190)), vary(rng, rgb(70, 200, 215)), (y - horizon) / (shore - horizon))
    sea = sea + 0.12 * (step(np.sin(y * 90 + 6 * noise(rng, x, y, 6)) - 0.8, 0.2))[..., None]
    sand = vary(rng, rgb(238, 212, 158)) + 0.07 * (noise(rng, x, y, 40, 2)[..., None] - 0.5)
    image = mix(sky(rng, y), sea, step(y - horizon))
    image = mix(image, sand, step(y - edge))
    foam = np.exp(-(((y - edge) / 0.018) ** 2))
    return mix(image, rgb(255, 255, 255), foam)


def night(rng: np.random.Generator, size: int) -> FloatImage:
    """Stars on dark blue, often with a moon."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(8, 10, 40), 0.02), vary(rng, rgb(35, 45, 110), 0.03), y)
    for _ in range(int(rng.integers(30, 60))):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.005, 0.012)
        image = mix(image, rgb(255, 250, 225), step(radius - np.hypot(x - cx, y - cy)))
    if rng.random() < 0.6:
        cx, cy, radius = rng.uniform(0.1, 0.9), rng.uniform(0.1, 0.3), rng.uniform(0.06, 0.09)
        disc = step(radius - np.hypot(x - cx, y - cy)) * step(
            np.hypot(x - cx - radius * 0.5, y - cy + radius * 0.2) - radius * 0.85
        )
        image = mix(image, rgb(255, 240, 180), disc)
    return image


def sea(rng: np.random.Generator, size: int) -> FloatImage:
    """Under water: rays from above, bubbles, weed on the ground."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(70, 190, 215)), vary(rng, rgb(8, 60, 120)), y * 1.1)
    rays = noise(rng, np.abs(x + 0.3 * y), np.zeros_like(y), 9)
    image = image + (0.25 * step(rays - 0.6, 0.3) * (1 - y))[..., None]
    floor = 0.86 + 0.04 * np.sin(x * rng.uniform(5, 9) + rng.uniform(0, 6))
    image = mix(image, rgb(60, 120, 130), step(y - floor))
    for _ in range(int(rng.integers(3, 7))):
        cx, height = rng.uniform(0, 1), rng.uniform(0.15, 0.35)
        stem = cx + 0.02 * np.sin(y * 40 + rng.uniform(0, 6))
        image = mix(image, rgb(20, 110, 70), step(0.014 - np.abs(x - stem)) * step(y - (0.95 - height)))
    for _ in range(int(rng.integers(6, 14))):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 0.9), rng.uniform(0.012, 0.03)
        rim = np.exp(-(((np.hypot(x - cx, y - cy) - radius) / 0.007) ** 2))
        image = mix(image, rgb(205, 240, 250), 0.9 * rim)
    return image


def moon(rng: np.random.Generator, size: int) -> FloatImage:
    """Grey dust with craters under a black sky."""
    x, y = grid(size)
    image = np.broadcast_to(rgb(6, 6, 10), (size, size, 3)).astype(np.float32)
    for _ in range(int(rng.integers(20, 40))):
        cx, cy = rng.uniform(0, 1), rng.uniform(0, 0.5)
        image = mix(image, rgb(255, 255, 255), step(rng.uniform(0.004, 0.009) - np.hypot(x - cx, y - cy)))
    horizon = rng.uniform(0.32, 0.48) + 0.03 * np.sin(x * rng.uniform(2, 4) + rng.uniform(0, 6))
    dust = vary(rng, rgb(165, 165, 168), 0.02) + 0.1 * (noise(rng, x, y, 18, 2)[..., None] - 0.5)
    for _ in range(int(rng.integers(6, 11))):
        cx, cy = rng.uniform(0, 1), rng.uniform(0.45, 1.0)
        radius = rng.uniform(0.03, 0.09) * (0.4 + cy)
        distance = np.hypot(x - cx, (y - cy) * 2.2) / radius
        dust = mix(dust, rgb(110, 110, 114), step(1 - distance, 0.15))
        dust = mix(dust, rgb(205, 205, 208), np.exp(-(((distance - 1.05) / 0.12) ** 2)) * 0.7)
    return mix(image, dust, step(y - horizon))


def sunset(rng: np.random.Generator, size: int) -> FloatImage:
    """A low sun over a dark sea, red and violet sky."""
    x, y = grid(size)
    horizon, cx = rng.uniform(0.58, 0.7), rng.uniform(0.2, 0.8)
    image = mix(vary(rng, rgb(90, 45, 120)), vary(rng, rgb(255, 130, 50)), y / horizon)
    cy, radius = horizon - rng.uniform(0.0, 0.1), rng.uniform(0.1, 0.15)
    distance = np.hypot(x - cx, y - cy)
    image = mix(image, rgb(255, 200, 90), np.exp(-((distance / (2.2 * radius)) ** 2)) * 0.7)
    image = mix(image, rgb(255, 235, 150), step(radius - distance))
    water = mix(rgb(95, 45, 85), rgb(40, 22, 60), (y - horizon) * 3)
    glint = np.exp(-(((x - cx) / 0.09) ** 2)) * (0.5 + 0.5 * np.sin(y * 130 + 4 * noise(rng, x, y, 8)))
    water = mix(water, rgb(255, 170, 80), glint)
    return mix(image, water, step(y - horizon))


def clouds(rng: np.random.Generator, size: int) -> FloatImage:
    """White clouds on blue, nothing below."""
    x, y = grid(size)
    sky = mix(vary(rng, rgb(60, 140, 230)), vary(rng, rgb(130, 195, 250)), y)
    puffs = noise(rng, x, y * 1.6, rng.uniform(3, 4.5), 4)
    return mix(sky, rgb(255, 255, 255), (puffs - 0.48) * 6)


def rain(rng: np.random.Generator, size: int) -> FloatImage:
    """Slanting streaks before grey, puddles below."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(95, 108, 125), 0.03), rgb(150, 162, 175), y)
    floor = rng.uniform(0.7, 0.82)
    puddles = mix(rgb(75, 84, 98), rgb(140, 155, 172), step(noise(rng, x, y * 3, 5) - 0.5, 0.1))
    image = mix(image, puddles, step(y - floor, 0.03))
    slant = rng.uniform(0.15, 0.3)
    for _ in range(int(rng.integers(40, 65))):
        cx, cy, length = rng.uniform(-0.1, 1.2), rng.uniform(-0.1, 1), rng.uniform(0.07, 0.15)
        along = (y - cy) / length
        streak = step(0.005 - np.abs(x - cx + slant * (y - cy)), 0.006) * ((along > 0) & (along < 1))
        image = mix(image, rgb(215, 228, 242), streak * 0.9)
    return image
