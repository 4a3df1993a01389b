from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from enlight.models.bank import Bank
from enlight.models.glyphs import FONT_PATH
from enlight.models.settings import RecipeSettings, tiny
from enlight.models.subjects import all_subjects

MODELS_FOLDER = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def pocket_folder() -> Path:
    return MODELS_FOLDER / "pocket"


@pytest.fixture(scope="session")
def judge_folder() -> Path:
    return MODELS_FOLDER / "judge"


@pytest.fixture(scope="session")
def font() -> Path:
    if not FONT_PATH.exists() and not os.environ.get("CI"):
        pytest.skip("needs the Debian package fonts-noto-color-emoji")
    return FONT_PATH


@pytest.fixture(scope="session")
def settings() -> RecipeSettings:
    return tiny(RecipeSettings())


@pytest.fixture(scope="session")
def noise_bank(settings: RecipeSettings) -> Bank:
    """A bank of the right shapes without any font: each subject is a disc of its own grey."""
    side = 16
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    disc = (np.hypot(x, y) < side / 2 - 1).astype(np.uint8)
    greys = np.arange(len(all_subjects())) % 200 + 55
    glyphs = greys[:, None, None, None].astype(np.uint8) * disc[None, :, :, None].repeat(4, axis=3)
    glyphs[..., 3] = disc * 255
    backgrounds = np.random.default_rng(0).integers(
        0, 255, (34, settings.background_variants, settings.image_size_px, settings.image_size_px, 3), dtype=np.uint8
    )
    return Bank(glyphs, backgrounds)
