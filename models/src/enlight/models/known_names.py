"""Counts the names that a base draws so that the judge knows them again.

`python -m enlight.models.known_names --model models/pocket --judge models/judge --out names.csv`
(six minutes on a CPU core): one picture of every trained subject, each on another background, nothing picked. Right is
a picture whose nearest neighbour among real renders of all subjects, the held-out ones included, is the one that was
asked for. Needs the Noto Color Emoji font.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.captions import caption
from enlight.models.demo_photos import Shot, take_photo
from enlight.models.judge import Judge
from enlight.models.sample_grid import sample_pictures
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import Subject, all_subjects

_RENDERS = 4
_BATCH = 48


@dataclass(frozen=True)
class Sighting:
    """What the judge saw in one picture."""

    subject: Subject
    background: str
    nearest: str
    """Name of the nearest subject."""
    named_background: str

    @property
    def right(self) -> bool:
        """True when it is the subject that was asked for."""
        return self.nearest == self.subject.name


def reference_vectors(judge: Judge, subjects: tuple[Subject, ...], size_px: int) -> np.ndarray:
    """One mean unit vector (S, D) for each subject, over renders at several scales on several backgrounds."""
    rng = np.random.default_rng(RecipeSettings().seed)
    vectors = []
    for subject in track(subjects, "real renders"):
        shots = [
            Shot(
                BACKGROUNDS[rng.integers(len(BACKGROUNDS))].name,
                scale=float(rng.uniform(0.55, 0.85)),
                centre=(float(rng.uniform(-0.15, 0.15)), float(rng.uniform(-0.15, 0.15))),
                turn_degrees=float(rng.uniform(-12, 12)),
                mirrored=bool(rng.random() < 0.5),
            )
            for _ in range(_RENDERS)
        ]
        renders = np.stack([take_photo(subject.name, shot, number, size_px) for number, shot in enumerate(shots)])
        mean = judge.subject_embedding(renders).mean(axis=0)
        vectors.append(mean / np.linalg.norm(mean))
    return np.stack(vectors)


def sightings(model: Path, judge: Judge, *, steps: int, guidance: float, device: str) -> list[Sighting]:
    """Draws one picture of every trained subject and shows it to the judge."""
    everything = all_subjects()
    references = reference_vectors(judge, everything, RecipeSettings().image_size_px)
    asked = [
        (subject, BACKGROUNDS[number % len(BACKGROUNDS)])
        for number, subject in enumerate(subject for subject in everything if not subject.held_out)
    ]
    seen = []
    for first in track(range(0, len(asked), _BATCH), "pictures"):
        part = asked[first : first + _BATCH]
        prompts = tuple(caption(subject, background.phrases[0], "article") for subject, background in part)
        pictures = sample_pictures(model, prompts, steps=steps, guidance=guidance, seed=first, device=device)
        nearest = (judge.subject_embedding(pictures) @ references.T).argmax(axis=1)
        for (subject, background), index, named in zip(part, nearest, judge.background(pictures), strict=True):
            seen.append(Sighting(subject, background.name, everything[index].name, named))
    return seen


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="a CSV file, a line per name")
    parser.add_argument("--steps", type=int, default=RecipeSettings().sample_steps)
    parser.add_argument("--guidance", type=float, default=RecipeSettings().sample_guidance)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    seen = sightings(
        arguments.model,
        Judge.load(arguments.judge),
        steps=arguments.steps,
        guidance=arguments.guidance,
        device=arguments.device,
    )
    with arguments.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "background", "nearest", "named_background"))
        writer.writerows((one.subject.name, one.background, one.nearest, one.named_background) for one in seen)
    backgrounds = {one.background for one in seen if one.background == one.named_background}
    console = Console()
    console.print(
        f"{sum(one.right for one in seen)} of {len(seen)} names known again among {len(all_subjects())} subjects."
    )
    right = sum(one.background == one.named_background for one in seen)
    console.print(f"{right} of {len(seen)} backgrounds as asked, of {len(backgrounds)} kinds.")


if __name__ == "__main__":
    main()
