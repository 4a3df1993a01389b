from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from enlight.models.bank import Bank
from enlight.models.compose import Composer, dye, held_out_subject_indices, place_glyphs, trained_subject_indices
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects, subject_named
from enlight.models.variations import VARIATIONS

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


def test_varied_batches_show_small_big_and_dyed_subjects_where_the_name_allows(
    noise_bank: Bank, settings: RecipeSettings
) -> None:
    # Given the training's composer / When many varied pictures are drawn, and as many that are not
    thumbnails = Bank(noise_bank.glyphs, np.ascontiguousarray(noise_bank.backgrounds[:, :, :4, :4]))
    composer = Composer(thumbnails, settings, _CPU, trained_subject_indices())
    varied = [composer.random_batch(1000, _generator(seed), varied=True) for seed in range(3)]
    plain = composer.random_batch(1000, _generator(0))
    # Then every variation comes up about as often as its share says, never where it contradicts the name
    drawn = torch.cat([batch.variations for batch in varied])
    shown = torch.cat([batch.subjects for batch in varied])
    for index, variation in enumerate(VARIATIONS):
        assert float((drawn == index).float().mean()) == pytest.approx(variation.share, abs=0.05)
    for subject, index in zip(shown.tolist(), drawn.tolist(), strict=True):
        if index:
            assert subject != composer.nothing
            assert VARIATIONS[index].suits(all_subjects()[subject])
    assert not plain.variations.any()
    # And a car that is red by name is never called blue
    assert not VARIATIONS[-1].suits(subject_named("red car"))
    assert VARIATIONS[-1].suits(subject_named("pizza"))


def test_sizes_are_as_named(noise_bank: Bank, settings: RecipeSettings) -> None:
    # Given discs on nothing
    glyphs = np.full_like(noise_bank.glyphs, 255)
    composer = Composer(Bank(glyphs, np.zeros_like(noise_bank.backgrounds)), settings, _CPU, trained_subject_indices())
    words = [variation.word for variation in VARIATIONS]
    # When they are drawn as they are, small and big
    areas = {}
    for word in ("", "small", "big"):
        variations = torch.full((40,), words.index(word))
        batch = composer.compose(torch.zeros(40, dtype=torch.int64), variations * 0, _generator(1), variations)
        areas[word] = batch.pixels.mean(dim=(1, 2, 3)).sqrt()
    # Then no small one is as large as any other, and no big one as small
    assert float(areas["small"].max()) < float(areas[""].min())
    assert float(areas["big"].min()) > float(areas[""].mean())


def test_dye_keeps_shape_light_and_shade() -> None:
    # Given a glyph of a dark, a middle and a light stripe, half transparent at the edge
    glyph = torch.ones(1, 4, 1, 4)
    glyph[0, :3, 0] = torch.tensor([0.2, 0.5, 0.9, 0.25])
    glyph[0, 3, 0, 3] = 0.5
    glyphs = glyph.expand(2, -1, -1, -1)
    red = torch.tensor([[0.8, 0.1, 0.1]])
    # When the first one is dyed red, and the second one not
    dyed = dye(glyphs, red.expand(2, -1), torch.tensor([True, False]))
    # Then the middle is the colour itself, the others are darker and lighter, alpha stays, and so does the second
    torch.testing.assert_close(dyed[0, :3, 0, 1], red[0])
    torch.testing.assert_close(dyed[0, :3, 0, 0], 0.4 * red[0])
    assert (dyed[0, :3, 0, 2] > 0.8).all()
    torch.testing.assert_close(dyed[0, :3, 0, 3], 0.5 * red[0])
    torch.testing.assert_close(dyed[0, 3], glyph[0, 3])
    torch.testing.assert_close(dyed[1], glyph[0])


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
