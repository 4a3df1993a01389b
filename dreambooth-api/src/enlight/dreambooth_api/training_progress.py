"""What a trainer tells its parent and hears from it: progress, cancellation, the wish to stop."""

from __future__ import annotations

import math
import resource
import time
from collections.abc import Callable
from typing import Protocol

import torch

from enlight.dreambooth_api.requests import RemarkLevel, TrainerRemark, TrainingPhase, TrainingProgress
from enlight.servicekit.errors import Cancelled, JobFailed, WorkerUnavailable

JOB_TASK_ID = 0


class TrainerChannel(Protocol):
    """The part of ``servicekit.child.ChildChannel`` that a trainer uses."""

    @property
    def closing(self) -> bool:
        """Whether the parent asked this process to end."""
        ...

    def cancelled(self, task_id: int) -> bool:
        """Whether nobody wants the result any more."""
        ...

    def progress(self, task_id: int, payload: object) -> None:
        """Tell how far the job is."""
        ...

    def result(self, task_id: int, payload: object) -> None:
        """Answer the job."""
        ...


def raise_if_unwanted(channel: TrainerChannel) -> None:
    """Stop here when the job was cancelled or the service stops.

    Raises:
        Cancelled: somebody cancelled the job.
        WorkerUnavailable: the parent is stopping; an identical request goes on from the last checkpoint.
    """
    if channel.cancelled(JOB_TASK_ID):
        raise Cancelled
    if channel.closing:
        raise WorkerUnavailable("The service is stopping; an identical request resumes the training.")


def remark(channel: TrainerChannel, level: RemarkLevel, message: str, trace: str | None = None) -> None:
    """Says something for the training's log; the trace is for operators only."""
    channel.progress(JOB_TASK_ID, TrainerRemark(level, message, trace))


class ProgressReporter:
    """Sends TrainingProgress, at most one per ``every_s`` apart from beginnings and ends.

    ``step`` and ``steps`` count pictures in the phases that make or read them, and updates in all others.
    The loss is summed on the device and read only when a message is due.
    """

    def __init__(
        self,
        channel: TrainerChannel,
        *,
        device: torch.device,
        every_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._channel = channel
        self._device = device
        self._every_s = every_s
        self._clock = clock
        self._sent_at_s = -math.inf
        self._last: TrainingProgress | None = None
        self._resumed_from_step = 0
        self._measured_from: tuple[int, float] | None = None
        self._loss_sum = torch.zeros((), device=device)
        self._losses = 0

    def phase(self, phase: TrainingPhase, step: int, steps: int) -> None:
        """A phase begins, or reached ``step`` of ``steps``; the end of a phase is always told."""
        if 0 < step < steps and not self._due():
            return
        self._send(phase, step, steps, loss=None, learning_rate=None)

    def begin_training(self, step: int, steps: int) -> None:
        """The updates begin, after ``step`` of them were done by an earlier attempt."""
        self._resumed_from_step = step
        self._send("training", step, steps, loss=None, learning_rate=None)

    def update(self, step: int, steps: int, loss: torch.Tensor, learning_rate: float) -> None:
        """Update number ``step`` (from 1) of ``steps`` is done; ``loss`` is a scalar on the device.

        Raises:
            JobFailed: the loss is not finite, as seen when a message is due.
        """
        self._loss_sum += loss
        self._losses += 1
        first = self._measured_from is None
        if first or step == steps or self._due():
            mean_loss = self.require_finite_loss()
            if first:  # the first update warms up; speed is measured from its end
                self._measured_from = (step, self._clock())
            self._send("training", step, steps, loss=mean_loss, learning_rate=learning_rate)
            self._loss_sum.zero_()
            self._losses = 0

    def alive(self) -> None:
        """Says what was said last, where nothing new comes for long: the parent kills who is silent."""
        if self._last is not None and self._due():
            self._tell(self._last)

    def require_finite_loss(self) -> float | None:
        """Mean loss since the last message; None without an update since. Waits for the device.

        Raises:
            JobFailed: it is not finite.
        """
        if self._losses == 0:
            return None
        mean_loss = float(self._loss_sum.item()) / self._losses
        if not math.isfinite(mean_loss):
            raise JobFailed(
                "The training diverged: the loss is no longer a number. Nothing was published; "
                "a lower learning rate helps, and on old GPUs mixed precision `no` instead of fp16."
            )
        return mean_loss

    def _due(self) -> bool:
        return self._clock() - self._sent_at_s >= self._every_s

    def _send(
        self, phase: TrainingPhase, step: int, steps: int, *, loss: float | None, learning_rate: float | None
    ) -> None:
        steps_per_s = self._steps_per_s(step) if phase == "training" else None
        progress = TrainingProgress(
            phase=phase,
            step=step,
            steps=steps,
            resumed_from_step=self._resumed_from_step,
            loss=loss,
            learning_rate=learning_rate,
            steps_per_s=steps_per_s,
            remaining_s=(steps - step) / steps_per_s if steps_per_s else None,
            peak_memory_bytes=peak_memory_bytes(self._device),
        )
        self._tell(progress)

    def _tell(self, progress: TrainingProgress) -> None:
        self._sent_at_s = self._clock()
        self._last = progress
        self._channel.progress(JOB_TASK_ID, progress)

    def _steps_per_s(self, step: int) -> float | None:
        if self._measured_from is None or step == self._measured_from[0]:
            return None
        elapsed_s = self._clock() - self._measured_from[1]
        return (step - self._measured_from[0]) / elapsed_s if elapsed_s > 0 else None


def peak_memory_bytes(device: torch.device) -> int:
    """Most memory used so far: allocated on the GPU, or resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
