"""One job: one subject, one way to train (or none), pictures, and everything measured on them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gallery import Gallery
from instance_photos import as_the_trainer_sees, write_photos
from personalised_model import PictureMaker, train
from picture_measures import mean_pairwise_rmse, nearest_photo_rmse
from prompts import DIVERSITY_SCENES, AskedPicture, prior_pictures, subject_pictures
from protocol import DIVERSITY_RENDERS
from renders import renders_on

from enlight.dreambooth_api.requests import Base, TrainingOutcome, TrainingRequest
from enlight.models.judge import Judge

BASE_ROW = "base"
"""Name of the row of the untrained base."""


@dataclass(frozen=True)
class Job:
    """What one worker does in one go."""

    row: str
    """Name of the line of the table that it counts for."""
    subject: str
    request: TrainingRequest | None
    """Without photos; None: the base as it is."""
    asked: tuple[AskedPicture, ...]
    """Pictures of the subject."""
    prior: tuple[AskedPicture, ...]
    """Pictures of trained objects."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.subject}, {self.row}"


@dataclass(frozen=True)
class JobResult:
    """What was measured, as plain values, and the pictures behind it."""

    measured: dict[str, Any]
    photos: np.ndarray
    """(PHOTOS_PER_SUBJECT, H, W, 3) uint8."""
    pictures: np.ndarray
    """(len(asked) + len(prior), H, W, 3) uint8."""


def make_job(row: str, subject: str, request: TrainingRequest | None) -> Job:
    """The job of a subject, with all the pictures that belong to it.

    The base is asked for one picture of each prompt only: how its pictures of an unknown word differ says nothing.
    """
    asked = [picture for picture in subject_pictures(subject) if request is not None or not picture.extra]
    return Job(row, subject, request, tuple(asked), tuple(prior_pictures(subject)))


@dataclass(frozen=True)
class JobRunner:
    """What a worker process keeps from job to job."""

    base: Base
    judge: Judge
    gallery: Gallery
    """Whom the judge may take a picture for."""
    maker: PictureMaker
    device: str
    """Where it trains, as the service's device setting."""

    def run(self, job: Job) -> JobResult:
        """Trains, makes the pictures and measures them. Raises: what the trainer raises."""
        begun_s = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="enlight-photos-") as folder:
            paths = write_photos(job.subject, Path(folder))
            photos = as_the_trainer_sees(paths)
            fine_tune, outcome = None, None
            if job.request is not None:
                fine_tune, outcome = train(self.base, job.request, paths, self.device)
        asked = [*job.asked, *job.prior]
        with self.maker.using(fine_tune):
            pictures = self.maker.pictures([picture.prompt for picture in asked], [picture.seed for picture in asked])
        of_subject, of_others = pictures[: len(job.asked)], pictures[len(job.asked) :]
        measured = {
            "row": job.row,
            "subject": job.subject,
            "training": _training_figures(outcome),
            "pictures": self.look_at(job.asked, of_subject, photos),
            "prior": self.look_at(job.prior, of_others, photos),
            "diversity": diversity(job.asked, of_subject),
            "job_s": time.monotonic() - begun_s,
        }
        return JobResult(measured, photos, pictures)

    def look_at(self, asked: Sequence[AskedPicture], pictures: np.ndarray, photos: np.ndarray) -> list[dict[str, Any]]:
        """What the judge says of each picture (B, H, W, 3) uint8, beside what was asked, and how far a photo is."""
        if not asked:
            return []
        embeddings = self.judge.subject_embedding(pictures)
        backgrounds = self.judge.background(pictures)
        distances = nearest_photo_rmse(pictures, photos)
        return [
            asdict(picture)
            | asdict(self.gallery.sight(embedding[None], picture.shows)[0])
            | {"named_background": background, "photo_rmse": float(distance)}
            for picture, embedding, background, distance in zip(asked, embeddings, backgrounds, distances, strict=True)
        ]


def diversity(asked: tuple[AskedPicture, ...], pictures: np.ndarray) -> list[dict[str, Any]]:
    """Spread of the pictures of each prompt that was asked for several times, beside that of real renders."""
    spreads = []
    for background in DIVERSITY_SCENES:
        rows = [row for row, picture in enumerate(asked) if picture.background == background]
        if len(rows) < 2:
            continue
        renders = renders_on(asked[rows[0]].shows, [background] * DIVERSITY_RENDERS, f"diversity {background}")
        spreads.append(
            {
                "background": background,
                "rmse": mean_pairwise_rmse(pictures[rows]),
                "rmse_of_renders": mean_pairwise_rmse(renders),
            }
        )
    return spreads


def _training_figures(outcome: TrainingOutcome | None) -> dict[str, Any] | None:
    if outcome is None:
        return None
    return {
        "steps": outcome.steps,
        "train_s": outcome.train_s,
        "total_s": outcome.total_s,
        "final_loss": outcome.final_loss,
        "size_bytes": outcome.size_bytes,
    }
