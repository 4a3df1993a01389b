"""What an attempt tells of itself beside its progress: lines of the job's log, losses, samples.

Whoever tells something does not wait: a thread brings it to the database and the bucket, every few seconds. Of a worker
that is killed what it told since the last time is lost, but for samples that the next attempt comes by again.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from datetime import UTC, datetime
from hashlib import sha256
from types import TracebackType
from typing import Self

from enlight.dreambooth_api.loss_curve import LossCurve
from enlight.dreambooth_api.requests import TrainerRemark, TrainingProgress, TrainingSample
from enlight.jobkit.job_histories import LINES_KEPT, JobHistories, LineLevel, LogLine
from enlight.jobkit.job_leases import JobLeases, LeaseLost
from enlight.jobkit.jobs import Job, JobSample, sample_key
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.logs import in_this_context
from enlight.servicekit.object_store import ObjectStore, put_new

_log = logging.getLogger(__name__)

EVERY_S = 2.0
"""Time between two batches."""


class AttemptHistory:
    """Within a ``with`` block what is told goes to where it is kept. Telling never waits and raises nothing.

    Args:
        histories: Take lines and losses.
        leases: Take samples.
        objects: The jobs' bucket, for the samples' files.
        job: As this attempt claimed it.
        every_s: Time between two batches.
    """

    def __init__(
        self, histories: JobHistories, leases: JobLeases, objects: ObjectStore, job: Job, *, every_s: float = EVERY_S
    ) -> None:
        self._histories = histories
        self._leases = leases
        self._objects = objects
        self._job = job
        self._every_s = every_s
        self._telling = threading.Lock()  # guards what was told
        self._lines: deque[LogLine] = deque(maxlen=LINES_KEPT)
        self._samples: deque[TrainingSample] = deque()
        self._curve: LossCurve | None = None
        self._resumed_from_step = self._last_loss_step = 0
        self._phase = ""
        self._bringing = threading.Lock()  # guards what is on its way
        self._is_begun = self._has_earlier_losses = False
        self._batch: list[LogLine] = []
        self._batches = 0
        self._brought_losses: list[tuple[int, float]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=in_this_context(self._work), name="attempt-history", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self.flush()

    def note(self, level: LineLevel, message: str, trace: str | None = None) -> None:
        """A line for the log; the trace is for operators only."""
        with self._telling:
            self._lines.append(LogLine(datetime.now(UTC), level, self._job.attempt, message, trace))

    def take(self, payload: object) -> None:
        """A message of the trainer."""
        if isinstance(payload, TrainingProgress):
            self._take_progress(payload)
        elif isinstance(payload, TrainerRemark):
            self.note(payload.level, payload.message, payload.trace)
        elif isinstance(payload, TrainingSample):
            with self._telling:
                self._samples.append(payload)

    def flush(self) -> None:
        """Brings away what was told so far, as far as that can be done now."""
        with self._bringing:
            try:
                self._bring_lines()
                self._bring_losses()
                self._bring_samples()
            except ServiceError as error:
                _log.warning("the job's history waits: %s", error.message)

    def _take_progress(self, progress: TrainingProgress) -> None:
        if progress.phase != self._phase:
            self._phase = progress.phase
            self.note("info", _beginning_of(progress))
        if progress.phase == "training" and progress.loss is not None:
            with self._telling:
                if self._curve is None:
                    self._curve = LossCurve(progress.steps)
                    self._resumed_from_step = progress.resumed_from_step
                if progress.step > self._last_loss_step:  # else it is told again, as a sign of life
                    self._curve.add(progress.step, progress.loss)
                    self._last_loss_step = progress.step

    def _work(self) -> None:
        while not self._stopping.is_set():
            self.flush()
            self._stopping.wait(self._every_s)

    def _bring_lines(self) -> None:
        if not self._is_begun:
            if self._leases.find(self._job.id) is None:  # deleted: nothing of it may come back
                return
            self._histories.begin(self._job.id, self._job.attempt)
            self._is_begun = True
        if not self._batch:  # else what was on its way goes again under its number, for it may have arrived
            with self._telling:
                self._batch = list(self._lines)
                self._lines.clear()
            self._batches += 1
        if self._batch:
            self._histories.add_lines(self._job.id, f"{self._job.attempt}.{self._batches}", self._batch)
            self._batch = []

    def _bring_losses(self) -> None:
        with self._telling:
            curve = self._curve
        if curve is None:
            return
        earlier = [] if self._has_earlier_losses else self._histories.losses(self._job.id)
        with self._telling:
            for step, loss in earlier:
                if step <= self._resumed_from_step:  # what came after it is done again
                    curve.add(step, loss)
            points = curve.points()
        self._has_earlier_losses = True
        if points != self._brought_losses:
            self._histories.set_losses(self._job.id, self._job.attempt, points)
            self._brought_losses = points

    def _bring_samples(self) -> None:
        while self._samples:  # only this method takes one away
            told = self._samples[0]
            sample = JobSample(
                step=told.step,
                attempt=self._job.attempt,
                seconds=round(told.seconds, 3),
                size_bytes=len(told.png),
                sha256=sha256(told.png).hexdigest(),
            )
            try:
                put_new(self._objects, sample_key(self._job.id, sample), told.png)
                self._leases.add_sample(self._job.id, self._job.attempt, sample)
            except LeaseLost:
                _log.warning("the sample of update %d comes too late", told.step)
            self._samples.popleft()


def _beginning_of(progress: TrainingProgress) -> str:
    """What the log says of a phase that begins."""
    if progress.phase == "training":
        if progress.resumed_from_step:
            return f"Training goes on after step {progress.resumed_from_step} of {progress.steps}."
        return f"Training begins: {progress.steps} steps."
    return {
        "loading": "The base model is being loaded.",
        "photos": "The base model is there; the photos are being read.",
        "class_images": "Class images are being made.",
        "saving": "All steps are done; the weights are being written.",
        "publishing": "The model is being published.",
    }[progress.phase]
