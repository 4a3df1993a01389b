"""What happened on the way of a training: its log, and the curve of its losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from enlight.jobkit.job_histories import LINES_KEPT, LineLevel, LogLine, Losses
from enlight.jobkit.jobs import Job
from enlight.main_api.trainings.views import iso, reason_of, under_own_name
from enlight.servicekit.schemas import Answer


@dataclass(frozen=True)
class History:
    """What workers told of a training."""

    lines: Sequence[LogLine]
    """The newest, oldest first."""
    lines_in_all: int
    losses: Losses


class TrainingLogQuery(BaseModel):
    """Query of a training's log."""

    model_config = ConfigDict(extra="forbid")

    lines: Annotated[int, Field(ge=1, le=LINES_KEPT)] = Field(200, description="How many, of the newest ones.")


class LossView(Answer):
    """A point of the curve."""

    step: int
    loss: float = Field(description="Mean since the point before.")


class TrainingLosses(Answer):
    """The losses of a training."""

    losses: list[LossView] = Field(description="By step; 200 at most, spread evenly over the training.")


class LogLineView(Answer):
    """Something that happened to a training."""

    at: str
    level: LineLevel
    attempt: int = Field(description="0: before any worker had it.")
    message: str = Field(description="For people; may change.")
    trace: str | None = Field(description="Where in the code an error came from; null without the scope `admin`.")


class TrainingLog(Answer):
    """The log of a training."""

    lines: list[LogLineView] = Field(description="Oldest first.")
    truncated: bool = Field(description="Whether there were earlier lines.")


def training_losses(losses: Losses) -> dict[str, Any]:
    """The answer of `TrainingLosses`."""
    return {"losses": [{"step": step, "loss": loss} for step, loss in losses]}


def training_log(
    job: Job, told: Sequence[LogLine], told_in_all: int, *, max_lines: int, with_traces: bool
) -> dict[str, Any]:
    """The answer of `TrainingLog`: what workers told, between what the record knows of beginning and end."""
    lines = [beginning_of(job), *told, *end_of(job)]
    shown = lines[-max_lines:]
    return {
        "lines": [
            {
                "at": iso(line.at),
                "level": line.level,
                "attempt": line.attempt,
                "message": under_own_name(job, line.message),
                "trace": under_own_name(job, line.trace) if line.trace and with_traces else None,
            }
            for line in shown
        ],
        "truncated": len(shown) < len(lines) or len(told) < told_in_all,
    }


def beginning_of(job: Job) -> LogLine:
    """The line with which every log begins."""
    repeats = f" It repeats {job.retry_of}." if job.retry_of else ""
    return LogLine(job.created_at, "info", 0, f"Accepted; waits for a worker.{repeats}")


def end_of(job: Job) -> list[LogLine]:
    """The line with which the log of a training that has ended ends."""
    if job.finished_at is None:
        return []
    if job.state == "failed":
        reason = reason_of(job) or {"code": "job_failed", "message": ""}
        return [LogLine(job.finished_at, "error", job.attempt, f"Failed ({reason['code']}): {reason['message']}")]
    message = "Succeeded." if job.state == "succeeded" else "Cancelled."
    return [LogLine(job.finished_at, "info", job.attempt, message)]
