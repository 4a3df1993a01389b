"""A whole measurement: the gallery, the judge's own accuracy, every job that is not done yet, and the results."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gallery import Gallery, distractor_names
from protocol import JUDGE_CHECK_RENDERS, SMALL_SCALE
from renders import renders_anywhere
from result_files import ResultFiles, digest_of_everything, digest_of_weights
from rich.console import Console
from subject_jobs import BASE_ROW, Job, make_job
from summary import subject_measures
from worker_pool import JobFailedError, Workplace, worker_pool

from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.requests import Base, TrainingRequest
from enlight.models.judge import Judge
from enlight.torchkit.device import choose_device

ROOT = Path(__file__).resolve().parents[1]
MODELS_FOLDER = ROOT / "models"
JUDGE_FOLDER = MODELS_FOLDER / "judge"
BASE_NAME = "enlight/pocket"
OUTPUT = ROOT / "fidelity-output"


@dataclass(frozen=True)
class JudgeAccuracy:
    """How often the judge is right about real renders, in per cent: the ceiling of what it can say of pictures."""

    renders: int
    subjects: float
    small_subjects: float
    """Of as many renders at the scale that "small" asks for."""
    backgrounds: float


@dataclass(frozen=True)
class Measurement:
    """The results of a run."""

    judge: JudgeAccuracy
    jobs: tuple[Job, ...]
    results: Mapping[tuple[str, str], Mapping[str, Any]]
    """What was measured, by row and subject."""
    files: ResultFiles
    found_done: int
    """Jobs that an earlier run had done: the time of this run is not that of all jobs then."""

    def per_subject(self, row: str) -> dict[str, dict[str, float]]:
        """The measures of each subject in one row of the table."""
        return {
            subject: subject_measures(measured, self.results[BASE_ROW, subject])
            for (name, subject), measured in self.results.items()
            if name == row
        }


def pocket_base() -> Base:
    """The bundled base."""
    return BaseCatalogue(MODELS_FOLDER).resolve(BASE_NAME, field="base")


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def measure(
    rows: Mapping[str, Mapping[str, TrainingRequest]],
    subjects: Sequence[str],
    *,
    output: Path,
    device: str,
    workers: int,
    fresh: bool,
    console: Console,
) -> Measurement:
    """Measures the base and each row on each subject; what an earlier run has done is not done again.

    Args:
        rows: By name, and then by subject, how to train.
        subjects: Names of the catalogue.
        output: Results lie in its folder `jobs`.
        device: As the service's device setting.
        workers: Processes.
        fresh: Forget the results of earlier runs.
        console: For bars.

    Raises:
        JobFailedError: a job failed, or the weights changed meanwhile.
        WeightsUnavailable: the base is not there.
    """
    base, settled = pocket_base(), choose_device(device)
    files = ResultFiles(output / "jobs", digest_of_everything(base, JUDGE_FOLDER, settled.type))
    weights = digest_of_weights(base, JUDGE_FOLDER)
    if fresh:
        files.forget()
    jobs = [make_job(BASE_ROW, subject, None) for subject in subjects]
    jobs += [make_job(row, subject, requests[subject]) for row, requests in rows.items() for subject in subjects]
    with worker_pool(Workplace(base, JUDGE_FOLDER, str(settled)), workers, console) as pool:
        to_do = {files.key(job): job for job in files.missing(jobs)}  # rows of equal requests share their jobs
        targets = [picture.shows for job in to_do.values() for picture in (*job.asked, *job.prior)]
        references = pool.references(list(dict.fromkeys([*distractor_names(), *subjects, *targets])))
        if len(to_do) < len(jobs):
            console.print(f"{len(to_do)} of {len(jobs)} jobs are left to do.")
        for job, result in pool.run(list(to_do.values()), references, done=len(jobs) - len(to_do)):
            files.save(job, result)
    if digest_of_weights(base, JUDGE_FOLDER) != weights:
        raise JobFailedError("The weights changed while they were measured: run it again.")
    results = {(job.row, job.subject): files.load(job) for job in jobs}
    return Measurement(
        judge=judge_accuracy(Judge.load(JUDGE_FOLDER), Gallery(references), subjects),
        jobs=tuple(jobs),
        results={key: measured for key, measured in results.items() if measured is not None},
        files=files,
        found_done=len({files.key(job) for job in jobs}) - len(to_do),
    )


def judge_accuracy(judge: Judge, gallery: Gallery, subjects: Sequence[str]) -> JudgeAccuracy:
    """Asks the judge about other real renders of the subjects than those of the gallery."""
    right_subjects, right_small, right_backgrounds = [], [], []
    for subject in subjects:
        renders, backgrounds = renders_anywhere(subject, JUDGE_CHECK_RENDERS, "judge check")
        sightings = gallery.sight(judge.subject_embedding(renders), subject)
        right_subjects += [sighting.nearest == subject for sighting in sightings]
        small, _ = renders_anywhere(subject, JUDGE_CHECK_RENDERS, "judge check, small", SMALL_SCALE)
        sightings = gallery.sight(judge.subject_embedding(small), subject)
        right_small += [sighting.nearest == subject for sighting in sightings]
        named = judge.background(renders)
        right_backgrounds += [one == other for one, other in zip(named, backgrounds, strict=True)]
    shares = (100 * float(np.mean(right)) for right in (right_subjects, right_small, right_backgrounds))
    return JudgeAccuracy(len(right_subjects), *shares)
