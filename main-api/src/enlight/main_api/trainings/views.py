"""Trainings as a caller sees them: in the shapes of dreambooth-api, under the tenant's own names."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from enlight.dreambooth_api.schemas import ModelId, TrainingListQuery, TrainingView
from enlight.jobkit.jobs import Job
from enlight.main_api.trainings.samples import SampleView, sample_views
from enlight.servicekit.errors import JobCancelled, JobFailed, ServiceError, WireError, error_classes, error_from_wire
from enlight.servicekit.schemas import Answer

_NOT_PARAMETERS = ("model_id", "base_name", "preset", "photos")
_UNFORESEEN_REASON: dict[str, Any] = {
    "code": "job_failed",
    "message": "The training ended without a model.",
    "details": {},
}


class TrainingPageQuery(TrainingListQuery):
    """Query of the list of trainings, which is read page by page."""

    model_id: ModelId | None = Field(None, description="Only the trainings of this model.")
    limit: Annotated[int, Field(ge=1, le=200)] = 50
    before: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        None, description="Id of a training: only earlier ones. The last page's `next`."
    )


class TrainingJobView(TrainingView):
    """State of a training, and what it took."""

    gpu_seconds: float = Field(
        description="Seconds that workers had it, in all attempts; of one that runs up to its last sign of life."
    )
    cancel_requested: bool = Field(description="Whether its end was asked for; one that runs ends within a step.")
    samples: list[SampleView] = Field(description="Pictures that it made of itself so far, by step.")
    retry_of: str | None = Field(description="The training that this one repeats.")


class TrainingPage(Answer):
    """Trainings, newest first."""

    trainings: list[TrainingJobView]
    next: str | None = Field(description="What to send as `before` for the next page; null: this is the last one.")


def training_view(job: Job, position: int | None) -> dict[str, Any]:
    """``job`` in the form of `TrainingJobView`; ``position``: trainings before it in the queue."""
    reason = reason_of(job)
    parameters = {name: value for name, value in job.request.items() if name not in _NOT_PARAMETERS}
    return {
        "id": job.id,
        "state": job.state,
        "model_id": job.model_name,
        "model_version": model_version(job),
        "base_model": job.request["base_name"],
        "preset": job.request.get("preset"),
        "created_at": iso(job.created_at),
        "started_at": iso(job.started_at),
        "finished_at": iso(job.finished_at),
        "attempt": job.attempt,
        "request_id": job.request_id,
        "gpu_seconds": round(job.gpu_seconds, 3),
        "cancel_requested": job.cancel_requested,
        "position": position,
        "progress": job.progress,
        "error": reason,
        "warnings": list(job.warnings),
        "parameters": {**parameters, "num_photos": len(job.photo_keys)},
        "samples": sample_views(job),
        "retry_of": job.retry_of,
    }


def model_version(job: Job) -> str | None:
    """The version that the training made; None before its end."""
    return job.committed_version if job.state == "succeeded" else None


def state_event(job: Job) -> dict[str, Any]:
    """What the event `state` tells of ``job``."""
    told: dict[str, Any] = {"state": job.state}
    if job.state == "running":
        told["attempt"] = job.attempt
    elif job.state == "succeeded":
        told |= {"model_id": job.model_name, "model_version": model_version(job)}
    elif job.state == "failed":
        reason = reason_of(job) or _UNFORESEEN_REASON
        told["error"] = {"code": reason["code"], "message": reason["message"]}
    return told


def training_error(job: Job) -> ServiceError:
    """The error with which a client that waited for this failed or cancelled ``job`` is answered."""
    if job.state == "cancelled":
        return JobCancelled("The training was cancelled.", details={"training_id": job.id})
    reason = reason_of(job) or _UNFORESEEN_REASON
    details = {**reason["details"], "training_id": job.id}
    if reason["code"] not in {known.code for known in error_classes()}:  # a worker that was lost, for one
        return JobFailed(reason["message"], details={**details, "reason": reason["code"]})
    return error_from_wire(WireError(reason["code"], reason["message"], details))


def reason_of(job: Job) -> dict[str, Any] | None:
    """``code``, ``message`` and ``details`` of why it failed, as the tenant may read them."""
    if job.reason is None:
        return None
    message = under_own_name(job, job.reason["message"])
    return {"code": job.reason["code"], "message": message, "details": dict(job.reason.get("details") or {})}


def under_own_name(job: Job, text: str) -> str:
    """``text`` of a worker, which knows the model by its id in the bucket, that the caller never saw."""
    return text.replace(job.model_id, job.model_name)


def iso(moment: datetime | None) -> str | None:
    """A time as answers have it."""
    return moment.isoformat(timespec="milliseconds") if moment else None
