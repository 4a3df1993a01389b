from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from enlight.models.demo_photos import DEMO_SUBJECT, SHOTS, Shot, take_photo
from enlight.models.held_out import TEST_SUBJECTS
from enlight.models.judge import Judge

_PHOTOS = Path(__file__).resolve().parents[2] / "demo" / "photos"


def test_demo_subject_is_held_out() -> None:
    assert DEMO_SUBJECT in TEST_SUBJECTS


def test_shipped_photos_are_what_the_script_makes(font: Path) -> None:
    # Given the five shipped photos / When the first is taken again / Then it is the same picture
    paths = sorted(_PHOTOS.glob("*.png"))
    assert len(paths) == len(SHOTS) == 5
    again = take_photo(DEMO_SUBJECT, SHOTS[0], 1)
    difference = np.asarray(Image.open(paths[0]).convert("RGB")).astype(int) - again.astype(int)
    assert np.abs(difference).mean() < 1.0


def test_judge_sees_one_subject_in_all_photos(judge_folder: Path) -> None:
    pictures = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(_PHOTOS.glob("*.png"))])
    judge = Judge.load(judge_folder)
    vectors = judge.subject_embedding(pictures)
    assert (vectors @ vectors.T).min() > 0.4
    assert judge.background(pictures) == [shot.background for shot in SHOTS]


def test_unknown_background_is_refused(font: Path) -> None:
    with pytest.raises(KeyError, match="nowhere"):
        take_photo("robot", Shot("nowhere", 0.5, (0.0, 0.0), 0.0), 1)
