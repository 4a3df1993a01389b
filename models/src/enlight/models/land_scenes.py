"""Scenes of land and town: each drawing takes a random generator and a side and returns a picture.

All return (size, size, 3) float in about [0, 1]; y grows downwards, coordinates run from 0 to 1.
"""

from __future__ import annotations

import numpy as np

from enlight.models.drawing import FloatImage, grid, mix, noise, rgb, sky, step, vary


def grass(rng: np.random.Generator, size: int) -> FloatImage:
    """Blue sky over a green field."""
    x, y = grid(size)
    horizon = rng.uniform(0.25, 0.45) + 0.03 * np.sin(x * rng.uniform(2, 5) + rng.uniform(0, 6))
    blades = noise(rng, x * 3, y * 0.8, 22, 2)
    field = mix(vary(rng, rgb(115, 190, 70)), vary(rng, rgb(45, 125, 40)), blades * 1.2 - 0.2 + 0.3 * (y - 0.5))
    return mix(sky(rng, y), field, step(y - horizon))


def desert(rng: np.random.Generator, size: int) -> FloatImage:
    """Orange dunes with shaded flanks under a pale hot sky."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(245, 205, 140)), rgb(255, 232, 190), y * 2)
    for layer in range(3):
        base = rng.uniform(0.28, 0.4) + 0.2 * layer
        ridge = base + 0.07 * np.sin(x * rng.uniform(3, 7) + rng.uniform(0, 6))
        slope = np.gradient(ridge, axis=1) * size
        light = 0.55 + 0.8 * slope + 0.15 * np.sin((y - ridge) * 120)
        dune = mix(rgb(190, 110, 50), rgb(240, 170, 85), light)
        image = mix(image, dune, step(y - ridge))
    return image


def city(rng: np.random.Generator, size: int) -> FloatImage:
    """Two rows of houses with lit windows above a grey street."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(150, 190, 225)), rgb(225, 230, 235), y * 1.5)
    for row in range(2):
        left = rng.uniform(-0.15, 0.0)
        while left < 1.0:
            width = rng.uniform(0.13, 0.24)
            roof = rng.uniform(0.08, 0.3) + 0.17 * row
            wall = vary(rng, rgb(*[(120, 130, 150), (165, 110, 90), (100, 105, 115), (180, 170, 150)][rng.integers(4)]))
            inside = step(x - left, 0.004) * step(left + width - x, 0.004) * step(y - roof, 0.004)
            u, v = (x - left) / 0.055, (y - roof) / 0.07
            pane = (np.abs(u - np.floor(u) - 0.5) < 0.27) & (np.abs(v - np.floor(v) - 0.5) < 0.27)
            front = mix(np.broadcast_to(wall, (size, size, 3)), rgb(250, 235, 160), pane.astype(np.float32) * 0.8)
            image = mix(image, front, inside)
            left += width + rng.uniform(0.0, 0.02)
    street = rng.uniform(0.76, 0.86)
    image = mix(image, rgb(165, 165, 165), step(y - street + 0.04))
    return mix(image, vary(rng, rgb(85, 85, 90), 0.02), step(y - street))


def forest(rng: np.random.Generator, size: int) -> FloatImage:
    """Trunks before dark leaves, moss below."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(28, 75, 35)), rgb(75, 135, 60), noise(rng, x, y, 9, 2) * 1.6 - 0.4)
    ground = rng.uniform(0.72, 0.84)
    for _ in range(int(rng.integers(5, 9))):
        cx, half = rng.uniform(0, 1), rng.uniform(0.018, 0.045)
        shade = mix(rgb(75, 48, 28), rgb(120, 82, 52), (x - cx) / half * 0.5 + 0.5)
        image = mix(image, shade, step(half - np.abs(x - cx + 0.01 * np.sin(y * 9))) * step(ground + 0.04 - y))
    crown = 0.22 + 0.1 * noise(rng, x, np.zeros_like(y), 8)
    leaves = mix(rgb(22, 85, 30), rgb(60, 140, 50), noise(rng, x, y, 16, 2))
    image = mix(image, leaves, step(crown - y, 0.05))
    moss = mix(rgb(60, 95, 35), rgb(95, 80, 45), noise(rng, x * 2, y * 2, 8, 2))
    return mix(image, moss, step(y - ground, 0.04))


def road(rng: np.random.Generator, size: int) -> FloatImage:
    """A grey road that runs to the horizon between green verges."""
    x, y = grid(size)
    horizon, centre = rng.uniform(0.28, 0.42), rng.uniform(0.4, 0.6)
    depth = np.clip((y - horizon) / (1 - horizon), 0.0, 1.0)
    middle = centre * (1 - depth) + 0.5 * depth
    verge = mix(vary(rng, rgb(110, 170, 80)), rgb(70, 130, 55), noise(rng, x, y, 14))
    image = mix(sky(rng, y), verge, step(y - horizon))
    half = 0.03 + 0.5 * depth
    offset = np.abs(x - middle)
    image = mix(image, vary(rng, rgb(88, 88, 94), 0.02), step(half - offset) * step(y - horizon))
    image = mix(image, rgb(245, 245, 245), step(0.07 * half - np.abs(offset - 0.88 * half)) * step(y - horizon))
    dash = np.sin(3.0 / (depth + 0.12) * 2.2 + rng.uniform(0, 6)) > 0
    return mix(image, rgb(250, 225, 90), step(0.06 * half - offset) * dash * step(y - horizon))


def mountains(rng: np.random.Generator, size: int) -> FloatImage:
    """Peaks with snow caps, green foothills."""
    x, y = grid(size)
    image = sky(rng, y)
    for layer in range(2):
        ridge = np.full_like(x, 1.0)
        for _ in range(int(rng.integers(2, 4))):
            cx, top = rng.uniform(0, 1), rng.uniform(0.08, 0.3) + 0.14 * layer
            ridge = np.minimum(ridge, top + np.abs(x - cx) * rng.uniform(0.9, 1.4))
        ridge = ridge + 0.04 * (noise(rng, x, np.zeros_like(y), 22) - 0.5)
        rock = mix(vary(rng, rgb(105, 115, 140)), rgb(75, 82, 105), noise(rng, x, y, 12, 2))
        cap = 0.13 + 0.06 * noise(rng, x, np.zeros_like(y), 26)
        rock = mix(rock, rgb(250, 252, 255), step(ridge + cap - y, 0.015))
        image = mix(image, rock, step(y - ridge))
    hill = rng.uniform(0.72, 0.82) + 0.04 * np.sin(x * rng.uniform(3, 7) + rng.uniform(0, 6))
    return mix(image, vary(rng, rgb(80, 140, 75)), step(y - hill))


def flowers(rng: np.random.Generator, size: int) -> FloatImage:
    """Blossoms of many colours on green, with no sky."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(95, 170, 70)), rgb(50, 120, 45), noise(rng, x, y, 18, 2))
    palette = [(235, 60, 90), (250, 210, 60), (245, 245, 250), (190, 90, 210), (250, 150, 190)]
    for _ in range(int(rng.integers(26, 38))):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.04, 0.065)
        angle, distance = np.arctan2(y - cy, x - cx), np.hypot(x - cx, y - cy)
        petals = radius * (0.75 + 0.25 * np.cos(5 * angle + rng.uniform(0, 6)))
        image = mix(image, rgb(*palette[rng.integers(5)]), step(petals - distance))
        image = mix(image, rgb(250, 190, 40), step(radius * 0.3 - distance))
    return image


def lava(rng: np.random.Generator, size: int) -> FloatImage:
    """Black rock with glowing cracks."""
    x, y = grid(size)
    rock = mix(rgb(28, 20, 22), rgb(62, 45, 45), noise(rng, x, y, 16, 2))
    field = noise(rng, x, y, rng.uniform(4, 6), 2)
    crack = np.exp(-(((field - 0.5) / 0.045) ** 2))
    image = mix(rock, rgb(235, 70, 15), crack * 1.3)
    return mix(image, rgb(255, 215, 90), (crack - 0.75) * 4)


def snow(rng: np.random.Generator, size: int) -> FloatImage:
    """A pale sky over white hills, with falling flakes and a few firs."""
    x, y = grid(size)
    image = mix(vary(rng, rgb(160, 185, 215)), rgb(215, 226, 240), y * 2)
    hill = rng.uniform(0.35, 0.55) + 0.07 * np.sin(x * rng.uniform(3, 7) + rng.uniform(0, 6))
    for _ in range(int(rng.integers(2, 6))):
        cx, height = rng.uniform(0, 1), rng.uniform(0.12, 0.22)
        base = float(np.interp(cx, x[0], hill[0])) + 0.02
        inside = step((y - (base - height)) * 0.35 - np.abs(x - cx), 0.01) * step(base - y)
        image = mix(image, rgb(70, 105, 95), inside)
    ground = mix(rgb(248, 251, 255), rgb(205, 220, 242), noise(rng, x, y * 2, 4, 2) * (y - 0.2))
    image = mix(image, ground, step(y - hill))
    for _ in range(int(rng.integers(25, 60))):
        cx, cy, radius = rng.uniform(0, 1), rng.uniform(0, 1), rng.uniform(0.006, 0.014)
        image = mix(image, rgb(255, 255, 255), step(radius - np.hypot(x - cx, y - cy)))
    return image
