from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from enlight.models.backgrounds import BACKGROUNDS, render_background
from enlight.models.bank import Bank
from enlight.models.compose import Composer, held_out_subject_indices
from enlight.models.glyphs import render_glyph
from enlight.models.judge import Judge
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects
from enlight.models.train_judge import blemish, margin_logits

_SEED = 99


@pytest.fixture(scope="module")
def judge(judge_folder: Path) -> Judge:
    return Judge.load(judge_folder)


def test_judge_is_small(judge_folder: Path) -> None:
    assert sum(path.stat().st_size for path in judge_folder.iterdir()) <= 3_000_000


def test_held_out_subjects_are_told_apart(judge: Judge, font: Path) -> None:
    # Given the forty subjects the judge never saw, each rendered four times on random backgrounds
    settings = RecipeSettings()
    glyphs = np.zeros((len(all_subjects()), 96, 96, 4), dtype=np.uint8)
    held_out = held_out_subject_indices()
    for index in held_out:
        glyphs[index] = render_glyph(all_subjects()[index].character, 96, font)
    backgrounds = np.stack(
        [[render_background(index, variant, 64, _SEED) for variant in range(2)] for index in range(len(BACKGROUNDS))]
    )
    composer = Composer(Bank(glyphs, backgrounds), settings, torch.device("cpu"), held_out)
    generator = torch.Generator().manual_seed(_SEED)
    subjects = torch.tensor(held_out).repeat(4)
    scenes = torch.randint(len(BACKGROUNDS), subjects.shape, generator=generator)
    pixels = composer.compose(subjects, scenes, generator).pixels
    pictures = (pixels.permute(0, 2, 3, 1).numpy() * 255).astype(np.uint8)
    # When each is compared with the means of three others per subject
    vectors = judge.subject_embedding(pictures)
    named = judge.background(pictures)
    count = len(held_out)
    means = vectors[count:].reshape(3, count, -1).mean(axis=0)
    similarity = vectors[:count] @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T
    # Then nearly all find their own, strangers are near zero, and backgrounds are named
    assert (similarity.argmax(axis=1) == np.arange(count)).mean() >= 0.95
    assert np.diag(similarity).mean() > 0.6
    assert abs(similarity[~np.eye(count, dtype=bool)].mean()) < 0.1
    assert np.mean([name == BACKGROUNDS[scene].name for name, scene in zip(named, scenes, strict=True)]) > 0.95


def test_embeddings_are_unit_vectors_of_any_picture_size(judge: Judge) -> None:
    pictures = np.random.default_rng(0).integers(0, 255, (2, 100, 120, 3), dtype=np.uint8)
    vectors = judge.subject_embedding(pictures)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    assert set(judge.background(pictures)) <= {background.name for background in BACKGROUNDS}


def test_missing_judge_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Judge.load(tmp_path)


def test_margin_lowers_only_the_right_class() -> None:
    # Given unit vectors and class centres / When scores are made with and without the margin
    embedding = torch.nn.functional.normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0]]), dim=1)
    centres, labels = torch.eye(2), torch.tensor([0, 1])
    plain = margin_logits(embedding, centres, labels, 0.0, 10.0)
    moved = margin_logits(embedding, centres, labels, 0.2, 10.0)
    # Then the right class scores less and the others the same
    assert (moved.diag() < plain.diag() - 0.1).all()
    assert torch.allclose(moved[0, 1], plain[0, 1])
    assert torch.allclose(plain, 10.0 * embedding.clamp(max=0.9999), atol=1e-3)


def test_blemishes_keep_the_range() -> None:
    generator = torch.Generator().manual_seed(0)
    pixels = blemish(torch.rand(4, 3, 16, 16), generator)
    assert float(pixels.min()) >= 0.0
    assert float(pixels.max()) <= 1.0
