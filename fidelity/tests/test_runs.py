"""Jobs through the real trainer in a real worker process, and what an interrupted run does again."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import benchmark
import numpy as np
import pytest
import torch
from benchmark import JUDGE_FOLDER, measure, pocket_base
from gallery import distractor_names, reference_vector
from preset_requests import preset_request
from protocol import PHOTOS_PER_SUBJECT
from result_files import ResultFiles, digest_of_everything
from result_tables import print_table, write_markdown, write_subjects_csv
from rich.console import Console
from sheet import write_contact_sheet
from subject_jobs import Job, JobResult, make_job
from sweep import merge_csv
from trainings import METHODS, TrainingChoice
from worker_pool import JobFailedError, WorkerPool, Workplace, worker_pool

from enlight.models.judge import Judge

SUBJECT = "flamingo"
CHOICE = TrainingChoice("full", 1e-3, steps=2, batch_size=1)


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with worker_pool(Workplace(pocket_base(), JUDGE_FOLDER, "cpu"), 1, quiet()) as workers:
        yield workers


def strangers(names: Sequence[str]) -> dict[str, np.ndarray]:
    vectors = np.random.default_rng(0).standard_normal((len(names), 128)).astype(np.float32)
    return dict(zip(names, vectors / np.linalg.norm(vectors, axis=1, keepdims=True), strict=True))


@pytest.fixture(scope="module")
def references() -> dict[str, np.ndarray]:
    return strangers(distractor_names()) | {SUBJECT: reference_vector(Judge.load(JUDGE_FOLDER), SUBJECT)}


def small(job: Job) -> Job:
    """The job with its first two prompts only."""
    return dataclasses.replace(job, asked=job.asked[:2], prior=())


def test_a_tiny_training_end_to_end(pool: WorkerPool, references: dict[str, np.ndarray], tmp_path: Path) -> None:
    files = ResultFiles(tmp_path / "jobs", "test")
    jobs = [small(make_job("base", SUBJECT, None)), small(make_job("tiny", SUBJECT, CHOICE.request(SUBJECT)))]
    assert files.missing(jobs) == jobs
    for job, result in pool.run(jobs, references):
        files.save(job, result)
    assert files.missing(jobs) == []
    base, tiny = (files.load(job) for job in jobs)
    assert base is not None
    assert tiny is not None
    assert base["training"] is None
    assert tiny["training"]["steps"] == 2
    assert [picture["prompt"] for picture in tiny["pictures"]] == [asked.prompt for asked in jobs[1].asked]
    # The training changed the pictures, and the plain base came back afterwards or was there before.
    (photos, before), (same_photos, after) = (files.pictures(job) for job in jobs)
    np.testing.assert_array_equal(photos, same_photos)
    assert len(photos) == PHOTOS_PER_SUBJECT
    assert before.shape == after.shape == (2, 64, 64, 3)
    assert not np.array_equal(before, after)
    again = dict(pool.run([jobs[0]], references))[jobs[0]]
    np.testing.assert_array_equal(again.pictures, before)


def test_a_job_that_fails_says_which_and_why(references: dict[str, np.ndarray]) -> None:
    impossible = dataclasses.replace(CHOICE.request(SUBJECT), lr_scheduler="polynomial", learning_rate=1e-9)
    with (
        worker_pool(Workplace(pocket_base(), JUDGE_FOLDER, "cpu"), 1, quiet()) as own_pool,
        pytest.raises(JobFailedError, match=r"flamingo, impossible: .*polynomial"),
    ):
        list(own_pool.run([small(make_job("impossible", SUBJECT, impossible))], references))


class PretendingPool:
    """Instead of processes: results made up at once, until the power fails."""

    def __init__(self, jobs_until_failure: int) -> None:
        self.done: list[str] = []
        self._left = jobs_until_failure

    def references(self, subjects: Sequence[str]) -> dict[str, np.ndarray]:
        return strangers(subjects)

    def run(self, jobs: Sequence[Job], references: Mapping[str, Any], done: int) -> Iterator[tuple[Job, JobResult]]:
        for job in jobs:
            if not self._left:
                raise JobFailedError("the power failed")
            self._left -= 1
            self.done.append(job.name)
            yield job, made_up(job)


def made_up(job: Job) -> JobResult:
    looks = {"likeness": 0.5, "photo_rmse": 0.3}
    pictures = [
        dataclasses.asdict(asked) | looks | {"nearest": asked.shows, "named_background": asked.background}
        for asked in (*job.asked, *job.prior)
    ]
    measured = {
        "row": job.row,
        "subject": job.subject,
        "training": {"train_s": 1.0, "total_s": 2.0} if job.request else None,
        "pictures": pictures[: len(job.asked)],
        "prior": pictures[len(job.asked) :],
        "diversity": [{"rmse": 0.2, "rmse_of_renders": 0.2}] if job.request else [],
    }
    blank = np.zeros((len(pictures), 64, 64, 3), np.uint8)
    return JobResult(measured, np.zeros((PHOTOS_PER_SUBJECT, 64, 64, 3), np.uint8), blank)


def measured_with(
    pool: PretendingPool, output: Path, monkeypatch: pytest.MonkeyPatch, *, fresh: bool = False
) -> benchmark.Measurement:
    @contextmanager
    def pretend(*_: object) -> Iterator[PretendingPool]:
        yield pool

    monkeypatch.setattr(benchmark, "worker_pool", pretend)
    subjects = ["owl", "teapot"]
    rows = {
        "one": {subject: CHOICE.request(subject) for subject in subjects},
        "the same": {subject: CHOICE.request(subject) for subject in subjects},
        "two": {subject: dataclasses.replace(CHOICE, steps=3).request(subject) for subject in subjects},
    }
    return measure(rows, subjects, output=output, device="cpu", workers=1, fresh=fresh, console=quiet())


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted, rest, nothing, fresh = (PretendingPool(count) for count in (4, 100, 0, 100))
    with pytest.raises(JobFailedError, match="power"):
        measured_with(interrupted, tmp_path, monkeypatch)
    measurement = measured_with(rest, tmp_path, monkeypatch)
    assert len(interrupted.done) == 4
    assert len(rest.done) == 2
    assert set(interrupted.done).isdisjoint(rest.done)
    assert len(measurement.results) == 8  # the two rows of equal requests have their results from the same jobs
    assert measurement.per_subject("one") == measurement.per_subject("the same")
    assert measured_with(nothing, tmp_path, monkeypatch).results == measurement.results
    measured_with(fresh, tmp_path, monkeypatch, fresh=True)
    assert len(fresh.done) == 6


def test_what_is_written_about_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurement = measured_with(PretendingPool(100), tmp_path, monkeypatch)
    rows = ["base", "two"]
    console = quiet()
    print_table(console, measurement, rows)
    assert isinstance(console.file, io.StringIO)
    assert "subject fidelity" in console.file.getvalue()
    table = write_markdown(tmp_path / "table.md", measurement, rows, 3.0).read_text()
    assert "| subject fidelity, % | 100 [100, 100] | 100 [100, 100] |" in table
    assert "| prior kept, pp | – | +0.0 [+0.0, +0.0] |" in table
    assert "2 subjects; for each 12 prompts" in table
    lines = write_subjects_csv(tmp_path / "subjects.csv", measurement, rows).read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [[row, name] for row in rows for name in ("owl", "teapot")]
    assert write_contact_sheet(tmp_path / "sheet.png", measurement, "two").stat().st_size > 1000


def test_another_training_and_another_digest_are_other_jobs(tmp_path: Path) -> None:
    files, others = ResultFiles(tmp_path, "one"), ResultFiles(tmp_path, "other")
    jobs = [make_job("row", SUBJECT, request) for request in (None, CHOICE.request(SUBJECT))]
    jobs.append(make_job("row", SUBJECT, dataclasses.replace(CHOICE, learning_rate=2e-3).request(SUBJECT)))
    jobs.append(make_job("row", "owl", None))
    keys = {store.key(job) for store in (files, others) for job in jobs}
    assert len(keys) == 2 * len(jobs)
    assert files.key(dataclasses.replace(jobs[0], row="renamed")) == files.key(jobs[0])


def test_the_digest_tells_weights_apart(tmp_path: Path) -> None:
    base = dataclasses.replace(pocket_base(), folder=tmp_path)
    weights = tmp_path / "unet.safetensors"
    weights.write_bytes(b"one")
    digest = digest_of_everything(base, JUDGE_FOLDER, "cpu")
    assert digest == digest_of_everything(base, JUDGE_FOLDER, "cpu")
    assert digest != digest_of_everything(base, JUDGE_FOLDER, "cuda")
    (tmp_path / "training_presets.json").write_text("{}")
    assert digest == digest_of_everything(base, JUDGE_FOLDER, "cpu")
    weights.write_bytes(b"two")
    assert digest != digest_of_everything(base, JUDGE_FOLDER, "cpu")


@pytest.mark.parametrize("preset", ["seed", "recommended"])
def test_presets_become_requests_as_the_service_makes_them(preset: str) -> None:
    request = preset_request(preset, "owl")
    assert request.instance_prompt == "a sks bird"
    assert request.photos == ()
    assert request.seed == CHOICE.request("owl").seed
    if preset == "seed":
        assert (request.max_training_steps, request.learning_rate, request.train_batch_size) == (400, 2e-6, 1)
        assert (request.lr_scheduler, request.prior_preservation) == ("constant", False)


def test_methods_of_the_sweep() -> None:
    requests = {method: TrainingChoice(method, 1e-4, 5).request("owl") for method in METHODS}
    assert len(set(requests.values())) == len(METHODS)
    assert requests["full-prior"].class_prompt == "a bird"
    assert requests["full-prior"].num_class_images == 16
    assert requests["lora"].kind == "lora"
    assert requests["full-text-encoder"].train_text_encoder


def test_lines_of_the_sweep_are_added_or_replaced(tmp_path: Path) -> None:
    path, columns = tmp_path / "new" / "sweep.csv", ("steps", "value")
    merge_csv(path, columns, [{"steps": "1", "value": "a"}, {"steps": "2", "value": "b"}], ["steps"])
    merge_csv(path, columns, [{"steps": "2", "value": "c"}, {"steps": "3", "value": "d"}], ["steps"])
    assert path.read_text().split() == ["steps,value", "1,a", "2,c", "3,d"]


def test_no_worker_has_more_than_one_torch_thread(pool: WorkerPool) -> None:
    executor = pool._executor
    assert executor.submit(torch.get_num_threads).result(timeout=60) == 1
