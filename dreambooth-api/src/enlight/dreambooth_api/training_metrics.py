"""What trainings measure, wherever their trainers are started: in dreambooth-api or in a worker. No torch."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import get_args

from prometheus_client import Histogram

from enlight.dreambooth_api.requests import TrainingPhase, TrainingProgress
from enlight.servicekit.child_metrics import stage_durations
from enlight.servicekit.errors import JobCancelled, ServiceError, WorkerUnavailable
from enlight.servicekit.metrics import LONG_BUCKETS_S, ServiceMetrics

TRAINING = "training"
OUTCOMES = ("succeeded", "failed", "cancelled", "interrupted")
"""Of a trainer: ``interrupted``: it died, or was asked to end, and another one goes on."""


class TrainingMetrics:
    """The trainings of one process.

    Args:
        metrics: Of the process.
        durations: Its histogram of stages; None: there is none yet.
    """

    def __init__(self, metrics: ServiceMetrics, durations: Histogram | None = None) -> None:
        self._lock = threading.Lock()
        self._running: dict[int, Trainer] = {}
        self.durations = durations or stage_durations(metrics)
        self.steps = metrics.counter("training_steps_total", "Updates that trainers made.")
        self._attempts = metrics.histogram(
            "training_attempt_duration_seconds",
            "Life of a trainer, by how it ended.",
            ["outcome"],
            buckets=LONG_BUCKETS_S,
        )
        metrics.watch("training_steps_per_second", "Updates a second of the trainers at work.", self._steps_per_s)
        metrics.watch("trainers_running", "Trainers at work.", lambda: len(self._running))
        metrics.watch(
            "training_peak_memory_bytes",
            "The most that a trainer at work used: of the GPU's memory, on a CPU of the machine's.",
            self._peak_memory_bytes,
        )
        for outcome in OUTCOMES:
            self._attempts.labels(outcome)
        for phase in get_args(TrainingPhase):
            self.durations.labels(TRAINING, phase)

    @contextmanager
    def trainer(self) -> Iterator[Trainer]:
        """Measures the block as the life of a trainer; how it ends says how that ended."""
        trainer = Trainer(self)
        began_s = time.monotonic()
        outcome = "interrupted"
        with self._lock:
            self._running[id(trainer)] = trainer
        try:
            yield trainer
            outcome = "succeeded"
        except JobCancelled:
            outcome = "cancelled"
            raise
        except WorkerUnavailable:
            raise
        except ServiceError:
            outcome = "failed"
            raise
        finally:
            with self._lock:
                del self._running[id(trainer)]
            if outcome == "succeeded":
                trainer.end_phase()
            self._attempts.labels(outcome).observe(time.monotonic() - began_s)

    def observe(self, phase: str, seconds: float) -> None:
        """A stage of a training took so long."""
        self.durations.labels(TRAINING, phase).observe(seconds)

    def _steps_per_s(self) -> float:
        with self._lock:
            return sum(trainer.steps_per_s for trainer in self._running.values())

    def _peak_memory_bytes(self) -> float:
        with self._lock:
            return max((trainer.peak_memory_bytes for trainer in self._running.values()), default=0.0)


class Trainer:
    """One trainer, by the messages that come from it."""

    def __init__(self, metrics: TrainingMetrics) -> None:
        self.steps_per_s = 0.0
        self.peak_memory_bytes = 0.0
        self._metrics = metrics
        self._phase = ""
        self._phase_began_s = 0.0
        self._step: int | None = None

    def take(self, progress: TrainingProgress) -> None:
        """How far it is."""
        self.peak_memory_bytes = float(progress.peak_memory_bytes or 0)
        self.steps_per_s = progress.steps_per_s or 0.0
        if progress.phase != self._phase:
            self.end_phase()
            self._phase, self._phase_began_s = progress.phase, time.monotonic()
        if progress.phase == "training":
            # The first message says after which update this trainer begins: those before are another's.
            self._metrics.steps.inc(max(0, progress.step - (progress.step if self._step is None else self._step)))
            self._step = progress.step

    def end_phase(self) -> None:
        """The phase is over."""
        if self._phase:
            self._metrics.observe(self._phase, time.monotonic() - self._phase_began_s)
