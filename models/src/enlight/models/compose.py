"""Composes training pictures in batches, on whatever device the bank was put on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from enlight.models.bank import Bank
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects
from enlight.models.variations import VARIATIONS

_NOTHING_SHARE = 0.06
"""How many training pictures show a background alone."""


@dataclass(frozen=True)
class Batch:
    """A batch of composed pictures and what they show."""

    pixels: Tensor
    """(B, 3, H, W) float in [0, 1]."""
    subjects: Tensor
    """(B,) int64 index of the glyph (subjects.all_subjects() come first), or their number for "nothing"."""
    backgrounds: Tensor
    """(B,) int64 index in backgrounds.BACKGROUNDS."""
    variations: Tensor
    """(B,) int64 index in variations.VARIATIONS; 0 where the subject is as it is."""


def trained_subject_indices() -> list[int]:
    """Positions of the subjects that training may show."""
    return [index for index, subject in enumerate(all_subjects()) if not subject.held_out]


def held_out_subject_indices() -> list[int]:
    """Positions of the subjects that training must never show."""
    return [index for index, subject in enumerate(all_subjects()) if subject.held_out]


def place_glyphs(
    glyphs: Tensor, pixels: Tensor, scales: Tensor, centres: Tensor, turns: Tensor, mirrored: Tensor
) -> Tensor:
    """Lays one glyph over each picture.

    Args:
        glyphs: (B, 4, G, G) float in [0, 1], colours multiplied by alpha.
        pixels: (B, 3, H, W) float in [0, 1], what lies below.
        scales: (B,) side of the glyph as a share of the picture's side.
        centres: (B, 2) x and y of the glyph's centre in [-1, 1].
        turns: (B,) clockwise turn in radians.
        mirrored: (B,) bool.

    Returns:
        (B, 3, H, W) float in [0, 1].
    """
    batch, _, height, width = pixels.shape
    cosine, sine = torch.cos(turns) / scales, torch.sin(turns) / scales
    sign = 1.0 - 2.0 * mirrored.to(scales.dtype)
    row_x = torch.stack([sign * cosine, sign * sine], dim=1)
    row_y = torch.stack([-sine, cosine], dim=1)
    linear = torch.stack([row_x, row_y], dim=1)
    offset = -torch.einsum("bij,bj->bi", linear, centres)
    theta = torch.cat([linear, offset[:, :, None]], dim=2)
    # Twice the picture's resolution, then averaged: smooth edges at any scale
    grid = functional.affine_grid(theta, [batch, 4, 2 * height, 2 * width], align_corners=False)
    layer = functional.grid_sample(glyphs, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    layer = functional.avg_pool2d(layer, 2)
    return layer[:, :3] + (1.0 - layer[:, 3:]) * pixels


def dye(glyphs: Tensor, colours: Tensor, dyed: Tensor) -> Tensor:
    """Gives glyphs one colour each, their light and shade kept: dark stays dark, light becomes pale.

    Args:
        glyphs: (B, 4, G, G) float in [0, 1], colours multiplied by alpha.
        colours: (B, 3) float in [0, 1].
        dyed: (B,) bool, the others are returned as they are.
    """
    alpha = glyphs[:, 3:]
    weights = torch.tensor([0.299, 0.587, 0.114], device=glyphs.device)
    luma = (glyphs[:, :3] * weights[:, None, None]).sum(dim=1, keepdim=True)  # multiplied by alpha as well
    luma = torch.where(alpha > 0, luma / alpha.clamp_min(1e-3), 0.0).clamp(0, 1)
    colour = colours[:, :, None, None]
    # Half light gives the colour itself
    mixed = torch.where(luma < 0.5, colour * (2 * luma), colour + (1 - colour) * (2 * luma - 1))
    return torch.where(dyed[:, None, None, None], torch.cat([mixed * alpha, alpha], dim=1), glyphs)


class Composer:
    """Draws random pictures from a bank; the same generator state always gives the same pictures."""

    def __init__(
        self, bank: Bank, settings: RecipeSettings, device: torch.device, subject_indices: Sequence[int]
    ) -> None:
        """Moves the bank to the device.

        Args:
            bank: glyphs and backgrounds.
            settings: ranges of scale and turn.
            device: where pictures are composed.
            subject_indices: which glyphs of the bank may be drawn.
        """
        self._settings = settings
        self._device = device
        self._glyphs = torch.from_numpy(bank.glyphs).permute(0, 3, 1, 2).contiguous().to(device)
        self._backgrounds = torch.from_numpy(bank.backgrounds).permute(0, 1, 4, 2, 3).contiguous().to(device)
        self._choices = torch.tensor(list(subject_indices), device=device)
        self.nothing = len(bank.glyphs)
        span = (settings.subject_scale_min, settings.subject_scale_max)
        self._shares = torch.tensor([variation.share for variation in VARIATIONS], device=device)
        self._scales = torch.tensor([variation.scales or span for variation in VARIATIONS], device=device)
        self._colours = torch.tensor([variation.rgb or (0, 0, 0) for variation in VARIATIONS], device=device) / 255.0
        self._dyed = torch.tensor([variation.rgb is not None for variation in VARIATIONS], device=device)
        self._suits = torch.tensor(
            [[variation.suits(subject) for variation in VARIATIONS] for subject in all_subjects()], device=device
        )

    def background_pixels(self, backgrounds: Tensor, generator: torch.Generator) -> Tensor:
        """Random variants of the given backgrounds: (B,) int64 -> (B, 3, H, W) float in [0, 1]."""
        count = len(backgrounds)
        variants = torch.randint(self._backgrounds.shape[1], (count,), device=self._device, generator=generator)
        pixels = self._backgrounds[backgrounds, variants].float() / 255.0
        flip = torch.rand(count, device=self._device, generator=generator) < 0.5
        pixels = torch.where(flip[:, None, None, None], pixels.flip(-1), pixels)
        gain = 1.0 + 0.06 * (2 * torch.rand((count, 1, 1, 1), device=self._device, generator=generator) - 1)
        return (pixels * gain).clamp(0.0, 1.0)

    def place(
        self, pixels: Tensor, subjects: Tensor, generator: torch.Generator, variations: Tensor | None = None
    ) -> Tensor:
        """Lays the given subjects over pictures at random place, scale, turn and mirroring."""
        settings, count = self._settings, len(subjects)
        if variations is None:
            variations = torch.zeros_like(subjects)

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, device=self._device, generator=generator)

        smallest, largest = self._scales[variations].unbind(dim=1)
        scales = smallest + (largest - smallest) * uniform(count)
        centres = (2 * uniform(count, 2) - 1) * (1.0 - 0.92 * scales[:, None])
        turns = (2 * uniform(count) - 1) * math.radians(settings.subject_turn_max_degrees)
        mirrored = uniform(count) < 0.5
        glyphs = self._glyphs[subjects.clamp(max=len(self._glyphs) - 1)].float() / 255.0
        glyphs = glyphs * (subjects < self.nothing)[:, None, None, None]
        glyphs = dye(glyphs, self._colours[variations], self._dyed[variations])
        return place_glyphs(glyphs, pixels, scales, centres, turns, mirrored)

    def compose(
        self,
        subjects: Tensor,
        backgrounds: Tensor,
        generator: torch.Generator,
        variations: Tensor | None = None,
    ) -> Batch:
        """Composes the asked subjects on the asked backgrounds, all (B,) int64."""
        if variations is None:
            variations = torch.zeros_like(subjects)
        pixels = self.background_pixels(backgrounds, generator)
        return Batch(self.place(pixels, subjects, generator, variations), subjects, backgrounds, variations)

    def random_batch(self, count: int, generator: torch.Generator, *, varied: bool = False) -> Batch:
        """Composes random subjects on random backgrounds, some of them empty.

        Args:
            count: number of pictures.
            generator: on the composer's device.
            varied: draw some of the subjects small, big or dyed.
        """
        picks = torch.randint(len(self._choices), (count,), device=self._device, generator=generator)
        subjects = self._choices[picks]
        empty = torch.rand(count, device=self._device, generator=generator) < _NOTHING_SHARE
        subjects = torch.where(empty, torch.full_like(subjects, self.nothing), subjects)
        backgrounds = torch.randint(self._backgrounds.shape[0], (count,), device=self._device, generator=generator)
        variations = self._random_variations(subjects, generator) if varied else None
        return self.compose(subjects, backgrounds, generator, variations)

    def _random_variations(self, subjects: Tensor, generator: torch.Generator) -> Tensor:
        drawn = torch.multinomial(self._shares, len(subjects), replacement=True, generator=generator)
        named = subjects < len(self._suits)
        suits = self._suits[subjects.clamp(max=len(self._suits) - 1), drawn]
        return torch.where(named & suits, drawn, torch.zeros_like(drawn))
