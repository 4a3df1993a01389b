"""An attempt at a training as a trace shows it: one span, and in it what it does one after the other. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Literal

from enlight.dreambooth_api.requests import TrainingProgress
from enlight.jobkit.jobs import Job
from enlight.servicekit.tracing import Span, span

AttemptStage = Literal["prepare", "train", "publish"]

_STAGES: Mapping[str, AttemptStage] = {
    "loading": "prepare",
    "photos": "prepare",
    "class_images": "prepare",
    "training": "train",
    "saving": "publish",
    "publishing": "publish",
}


def attempt_span(job: Job) -> AbstractContextManager[Span]:
    """The span of this attempt at a claimed job; it belongs to the request that made the job."""
    known: dict[str, str | int] = {"enlight.training_id": job.id, "enlight.attempt": job.attempt}
    if job.request_id is not None:
        known["enlight.request_id"] = job.request_id
    parent = {} if job.trace_parent is None else {"traceparent": job.trace_parent}
    return span("training attempt", kind="consumer", parent=parent, attributes=known)


class AttemptStages(ExitStack):
    """The stages of an attempt within a ``with`` block: each lasts until the next begins, the last until the end."""

    def __init__(self) -> None:
        super().__init__()
        self._stage: AttemptStage | None = None

    def begin(self, stage: AttemptStage) -> None:
        """This one begins, unless it has begun."""
        if stage != self._stage:
            self.pop_all().close()
            self._stage = stage
            self.enter_context(span(stage))

    def take(self, progress: TrainingProgress) -> None:
        """What the trainer says of itself."""
        self.begin(_STAGES[progress.phase])
