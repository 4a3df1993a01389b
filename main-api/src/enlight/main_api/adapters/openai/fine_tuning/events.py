"""What happened to a training, as events of OpenAI's: its log, what there is to say of its photos, and its losses."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from itertools import takewhile
from typing import Literal

from pydantic import Field

from enlight.jobkit.job_histories import LineLevel, LogLine
from enlight.jobkit.jobs import Job
from enlight.main_api.trainings.history import History, beginning_of, end_of
from enlight.main_api.trainings.views import under_own_name
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.schemas import Answer

EventLevel = Literal["info", "warn", "error"]
_LEVELS: dict[LineLevel, EventLevel] = {"info": "info", "warning": "warn", "error": "error"}


class StepMetrics(Answer):
    """A point of the curve of losses."""

    step: int
    total_steps: int
    train_loss: float = Field(description="Mean since the point before.")


class FineTuningEvent(Answer):
    """Something that happened to a training."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int = Field(description="Seconds since 1970; of `metrics` reckoned from the step.")
    level: EventLevel
    message: str = Field(description="For people; may change.")
    type: Literal["message", "metrics"]
    data: StepMetrics | None = Field(description="Of `metrics`.")


class FineTuningEventPage(Answer):
    """Events, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningEvent]
    has_more: bool


def event_page(job: Job, history: History, *, limit: int, after: str | None) -> FineTuningEventPage:
    """A page of the training's events.

    Raises:
        InvalidField: ``after`` is no event of this training, or no more: the curve of a long one loses points.
    """
    newest_first = _events(job, history)[::-1]
    if after is not None:
        before_it = sum(1 for _ in takewhile(lambda event: event.id != after, newest_first))
        if before_it == len(newest_first):
            raise InvalidField.of("after", "is not the id of an event of this job")
        newest_first = newest_first[before_it + 1 :]
    return FineTuningEventPage(data=newest_first[:limit], has_more=len(newest_first) > limit)


def _events(job: Job, history: History) -> list[FineTuningEvent]:
    """All of them, oldest first. An event keeps its id, whatever comes later."""
    first_number = history.lines_in_all - len(history.lines)
    lines = [
        (line.at, _message(job, line, f"line-{number}")) for number, line in enumerate(history.lines, first_number)
    ]
    on_the_way = sorted([*lines, *_metrics(job, history)], key=lambda each: each[0])
    return [
        _message(job, beginning_of(job), "begin"),
        *_warnings(job),
        *(event for _, event in on_the_way),
        *(_message(job, line, "end") for line in end_of(job)),
    ]


def _warnings(job: Job) -> Iterator[FineTuningEvent]:
    for number, warning in enumerate(job.warnings):
        line = LogLine(job.created_at, "warning", 0, warning["message"])
        yield _message(job, line, f"photos-{number}")


def _message(job: Job, line: LogLine, mark: str) -> FineTuningEvent:
    message = under_own_name(job, line.message)
    return _event(job, mark, line.at, message, level=_LEVELS[line.level], kind="message")


def _metrics(job: Job, history: History) -> Iterator[tuple[datetime, FineTuningEvent]]:
    """The losses, whose times nobody noted: spread between the first and the last sign of life, by their steps."""
    began, seen = job.started_at, job.renewed_at
    if began is None or seen is None or not history.losses:
        return
    steps = job.request["max_training_steps"]
    last_step = max(history.losses[-1][0], (job.progress or {}).get("step") or 0)
    for step, loss in history.losses:
        at = began + (seen - began) * (step / last_step)
        data = StepMetrics(step=step, total_steps=steps, train_loss=loss)
        message = f"Step {step}/{steps}: training loss={loss:.4f}"
        yield at, _event(job, f"step-{step}", at, message, level="info", kind="metrics", data=data)


def _event(
    job: Job,
    mark: str,
    at: datetime,
    message: str,
    *,
    level: EventLevel,
    kind: Literal["message", "metrics"],
    data: StepMetrics | None = None,
) -> FineTuningEvent:
    return FineTuningEvent(
        id=f"ftevent-{job.id}-{mark}",
        created_at=int(at.timestamp()),
        level=level,
        message=message,
        type=kind,
        data=data,
    )
