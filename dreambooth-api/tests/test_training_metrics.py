"""What trainings measure, from the messages of their trainers."""

from __future__ import annotations

from typing import cast

import pytest
from metric_samples import sample

from enlight.dreambooth_api.requests import TrainingPhase, TrainingProgress
from enlight.dreambooth_api.training_metrics import Trainer, TrainingMetrics
from enlight.servicekit.errors import JobCancelled, JobFailed, WorkerUnavailable
from enlight.servicekit.metrics import ServiceMetrics


def tell(trainer: Trainer, phase: str, step: int = 0, *, steps_per_s: float | None = None, bytes_: int = 5) -> None:
    trainer.take(
        TrainingProgress(
            cast(TrainingPhase, phase), step, 100, 0, None, None, steps_per_s, None, peak_memory_bytes=bytes_
        )
    )


def figure(metrics: ServiceMetrics, name: str, **labels: str) -> float:
    return sample(metrics.text().decode(), f"enlight_{name}", **labels)


def test_steps_are_counted_once_and_those_of_an_earlier_trainer_are_not() -> None:
    metrics = ServiceMetrics()
    trainings = TrainingMetrics(metrics)
    with trainings.trainer() as first:
        for step in (0, 1, 8, 8, 20):
            tell(first, "training", step)
    assert figure(metrics, "training_steps_total") == 20
    with trainings.trainer() as second:  # goes on from the checkpoint of update 15
        tell(second, "training", 15)
        tell(second, "training", 20)
        tell(second, "saving", 20)
    assert figure(metrics, "training_steps_total") == 25


def test_what_trainers_at_work_do_is_shown_while_they_do_it() -> None:
    metrics = ServiceMetrics()
    trainings = TrainingMetrics(metrics)
    with trainings.trainer() as one, trainings.trainer() as other:
        tell(one, "training", 1, steps_per_s=2.0, bytes_=7)
        tell(other, "training", 1, steps_per_s=0.5, bytes_=3)
        assert figure(metrics, "trainers_running") == 2
        assert figure(metrics, "training_steps_per_second") == 2.5
        assert figure(metrics, "training_peak_memory_bytes") == 7
    for name in ("trainers_running", "training_steps_per_second", "training_peak_memory_bytes"):
        assert figure(metrics, name) == 0


def test_phases_are_stages_each_measured_to_its_end() -> None:
    metrics = ServiceMetrics()
    trainings = TrainingMetrics(metrics)
    with trainings.trainer() as trainer:
        for phase in ("loading", "photos", "photos", "training", "training", "saving", "publishing"):
            tell(trainer, phase)
    counts = {
        phase: figure(metrics, "stage_duration_seconds_count", operation="training", stage=phase)
        for phase in ("loading", "photos", "class_images", "training", "saving", "publishing")
    }
    assert counts == {"loading": 1, "photos": 1, "class_images": 0, "training": 1, "saving": 1, "publishing": 1}


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "succeeded"),
        (JobCancelled("It was cancelled."), "cancelled"),
        (WorkerUnavailable("It was killed."), "interrupted"),
        (JobFailed("It diverged."), "failed"),
        (RuntimeError("The lease is lost."), "interrupted"),
    ],
)
def test_how_a_trainer_ended(error: Exception | None, outcome: str) -> None:
    metrics = ServiceMetrics()
    trainings = TrainingMetrics(metrics)

    def work() -> None:
        with trainings.trainer() as trainer:
            tell(trainer, "training")
            if error is not None:
                raise error

    if error is None:
        work()
    else:
        with pytest.raises(type(error)):
            work()
    ends = {
        each: figure(metrics, "training_attempt_duration_seconds_count", outcome=each)
        for each in ("succeeded", "failed", "cancelled", "interrupted")
    }
    assert ends == {**dict.fromkeys(ends, 0), outcome: 1}
    # And a phase that did not come to its end is not measured
    measured = figure(metrics, "stage_duration_seconds_count", operation="training", stage="training")
    assert measured == (1 if error is None else 0)
