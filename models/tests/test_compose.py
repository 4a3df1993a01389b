from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from enlight.models.bank import Bank
from enlight.models.compose import Composer, held_out_subject_indices, place_glyphs, trained_subject_indices
from enlight.models.settings import RecipeSettings

_CPU = torch.device("cpu")


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_same_seed_same_pictures(noise_bank: Bank, settings: RecipeSettings) -> None:
    # Given two composers over one bank / When both draw with the same seed
    batches = [
        Composer(noise_bank, settings, _CPU, trained_subject_indices()).random_batch(16, _generator(3))
        for _ in range(2)
    ]
    other = Composer(noise_bank, settings, _CPU, trained_subject_indices()).random_batch(16, _generator(4))
    # Then pictures and labels are equal, and another seed gives others
    assert torch.equal(batches[0].pixels, batches[1].pixels)
    assert torch.equal(batches[0].subjects, batches[1].subjects)
    assert not torch.equal(batches[0].pixels, other.pixels)
    assert float(other.pixels.min()) >= 0.0
    assert float(other.pixels.max()) <= 1.0


def test_training_pictures_never_show_a_held_out_subject(noise_bank: Bank, settings: RecipeSettings) -> None:
    # Given the training's composer / When many pictures are drawn
    thumbnails = Bank(noise_bank.glyphs, np.ascontiguousarray(noise_bank.backgrounds[:, :, :4, :4]))
    composer = Composer(thumbnails, settings, _CPU, trained_subject_indices())
    generator = _generator(0)
    shown = {number for _ in range(8) for number in composer.random_batch(500, generator).subjects.tolist()}
    # Then no held-out subject is among them, while nearly all others (and "nothing") are
    assert not shown & set(held_out_subject_indices())
    assert len(shown - {composer.nothing}) > 0.9 * len(trained_subject_indices())
    assert composer.nothing in shown


def test_glyph_lands_where_asked() -> None:
    # Given a white square glyph / When it is laid at the upper right, a quarter of the picture wide
    glyph = torch.ones(1, 4, 8, 8)
    out = place_glyphs(
        glyph,
        torch.zeros(1, 3, 32, 32),
        torch.tensor([0.25]),
        torch.tensor([[0.5, -0.5]]),
        torch.tensor([0.0]),
        torch.tensor([False]),
    )
    # Then exactly those pixels are white
    expected = torch.zeros(32, 32)
    expected[4:12, 20:28] = 1.0
    assert torch.allclose(out[0, 0], expected, atol=0.51)
    assert float(out.sum() / 3) == pytest.approx(float(expected.sum()), rel=1e-4)


def test_mirroring_and_turning() -> None:
    # Given a glyph whose left half is opaque
    glyph = torch.zeros(1, 4, 16, 16)
    glyph[..., :8] = 1.0
    arguments = (glyph, torch.zeros(1, 3, 32, 32), torch.tensor([1.0]), torch.zeros(1, 2))
    # When it is laid plainly, mirrored, and turned by a quarter
    plain = place_glyphs(*arguments, torch.tensor([0.0]), torch.tensor([False]))[0, 0]
    mirrored = place_glyphs(*arguments, torch.tensor([0.0]), torch.tensor([True]))[0, 0]
    turned = place_glyphs(*arguments, torch.tensor([math.pi / 2]), torch.tensor([False]))[0, 0]
    # Then the opaque half is left, right, and above
    assert plain[:, :15].mean() > 0.95 > 0.05 > plain[:, 17:].mean()
    assert mirrored[:, 17:].mean() > 0.95 > 0.05 > mirrored[:, :15].mean()
    assert turned[:15].mean() > 0.95 > 0.05 > turned[17:].mean()
