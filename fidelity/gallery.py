"""Who is it? The judge's embedding of a picture against reference vectors of the subject and of 200 others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from protocol import DISTRACTORS, REFERENCE_RENDERS, seeded
from renders import renders_anywhere

from enlight.models.judge import Judge
from enlight.models.subjects import all_subjects


def distractor_names() -> list[str]:
    """Trained subjects in a fixed random order; one more than is needed, since a target may be among them."""
    trained = [subject.name for subject in all_subjects() if not subject.held_out]
    return [trained[index] for index in seeded("distractors").permutation(len(trained))[: DISTRACTORS + 1]]


def reference_vector(judge: Judge, subject: str) -> np.ndarray:
    """Mean unit vector (D,) float32 of real renders of the subject at random places on random backgrounds."""
    renders, _ = renders_anywhere(subject, REFERENCE_RENDERS, "reference")
    mean = judge.subject_embedding(renders).mean(axis=0)
    vector: np.ndarray = mean / np.linalg.norm(mean)
    return vector


@dataclass(frozen=True)
class Sighting:
    """What a picture shows in the eyes of the judge."""

    nearest: str
    """Name of the nearest reference among the target and the distractors."""
    likeness: float
    """Cosine similarity to the target's reference."""


class Gallery:
    """Reference vectors by name.

    Args:
        references: (D,) unit vectors of the distractors and of every target that will be asked for.
    """

    def __init__(self, references: Mapping[str, np.ndarray]) -> None:
        self._references = references
        self._distractors = distractor_names()

    def sight(self, embeddings: np.ndarray, target: str) -> list[Sighting]:
        """Finds the nearest of the target and `DISTRACTORS` others for each embedding (B, D)."""
        names = [target, *[name for name in self._distractors if name != target][:DISTRACTORS]]
        similarities = embeddings @ np.stack([self._references[name] for name in names]).T
        return [Sighting(names[row.argmax()], float(row[0])) for row in similarities]
