"""How much pictures look like the subject of the photos, in the eyes of the judge network."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from enlight.models.judge import Judge

JUDGE_SIZE_PX = 64


class SubjectSimilarity:
    """Cosine similarity to the photos' mean embedding; the judge was trained apart from the base model, on real
    pictures of other subjects, to tell subjects apart whatever the background.

    Args:
        judge_folder: Where the judge's weights are.
        photos: Image files of the subject.
    """

    def __init__(self, judge_folder: Path, photos: Sequence[bytes]) -> None:
        self._judge = Judge.load(judge_folder)
        centre = self._embed(photos).mean(axis=0)
        self._subject = centre / np.linalg.norm(centre)

    def mean(self, pictures: Sequence[bytes]) -> float:
        """Mean similarity of the pictures to the subject, from -1 to 1."""
        return float((self._embed(pictures) @ self._subject).mean())

    def _embed(self, files: Sequence[bytes]) -> np.ndarray:
        pictures = [
            np.asarray(Image.open(io.BytesIO(file)).convert("RGB").resize((JUDGE_SIZE_PX, JUDGE_SIZE_PX)))
            for file in files
        ]
        return np.asarray(self._judge.subject_embedding(np.stack(pictures)))
