"""Trainings as OpenAI's clients see them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from enlight.jobkit.jobs import Job
from enlight.main_api.adapters.openai.fine_tuning.body import MethodName
from enlight.main_api.trainings.views import reason_of
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http_errors import UNKNOWN_FIELD
from enlight.servicekit.schemas import Answer

JobId = Annotated[str, StringConstraints(max_length=64)]
_METADATA = "metadata["


class FineTuningPath(BaseModel):
    """Path of one job."""

    fine_tuning_job_id: JobId


class FineTuningListQuery(BaseModel):
    """Query of the list of jobs, which is read page by page; also ``metadata[KEY]=VALUE``."""

    model_config = ConfigDict(extra="allow")

    limit: Annotated[int, Field(ge=1, le=200)] = Field(20, description="Jobs at most.")
    after: JobId | None = Field(None, description="Id of a job: only earlier ones.")

    def metadata(self) -> Mapping[str, str]:
        """What the jobs must have among their metadata. Raises: InvalidField for any other field."""
        wanted = {}
        for name, value in (self.model_extra or {}).items():
            if not (name.startswith(_METADATA) and name.endswith("]")):
                raise InvalidField.of(name[:100], UNKNOWN_FIELD)
            wanted[name.removeprefix(_METADATA).removesuffix("]")] = value
        return wanted


class FineTuningEventsQuery(BaseModel):
    """Query of a job's events, which are read page by page."""

    model_config = ConfigDict(extra="forbid")

    limit: Annotated[int, Field(ge=1, le=1000)] = Field(20, description="Events at most.")
    after: Annotated[str, StringConstraints(max_length=128)] | None = Field(
        None, description="Id of an event: only earlier ones."
    )


class CheckpointsQuery(FineTuningEventsQuery):
    """Query of a job's checkpoints."""


class FineTuningError(Answer):
    """Why a job failed."""

    code: str
    message: str
    param: None = Field(None, description="Always null.")


class AskedHyperparameters(Answer):
    """OpenAI's three, as they were asked for."""

    n_epochs: int | Literal["auto"]
    batch_size: int | Literal["auto"]
    learning_rate_multiplier: float | Literal["auto"]


class AskedSettings(Answer):
    """Settings of a method, as they were asked for."""

    hyperparameters: AskedHyperparameters


class AskedMethod(Answer):
    """How it is trained, as it was asked for."""

    type: MethodName
    supervised: AskedSettings | None
    dreambooth: AskedSettings | None


class FineTuningView(Answer):
    """A training."""

    id: str = Field(description="Also the training's id on `/v1/trainings`.")
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    status: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    model: str = Field(description="The base model.")
    fine_tuned_model: str | None = Field(description="The trained model's name; null before there is one.")
    created_at: int = Field(description="Seconds since 1970.")
    finished_at: int | None
    estimated_finish: int | None = Field(description="As it went so far; null unless it runs.")
    error: FineTuningError | None
    hyperparameters: AskedHyperparameters
    method: AskedMethod
    metadata: dict[str, str]
    organization_id: str = Field(description="The tenant.")
    seed: int
    training_file: str = Field(description="Empty: it was begun on `/v1/trainings`, with photos of its own.")
    validation_file: None = Field(None, description="Always null.")
    result_files: list[str] = Field([], description="Always empty.")
    integrations: list[str] = Field([], description="Always empty.")
    trained_tokens: None = Field(None, description="Always null.")


class FineTuningPage(Answer):
    """Trainings, newest first."""

    object: Literal["list"] = "list"
    data: list[FineTuningView]
    has_more: bool


class CheckpointPage(Answer):
    """Checkpoints that are models: there are none."""

    object: Literal["list"] = "list"
    data: list[str] = Field([], description="Always empty.")
    first_id: None = Field(None, description="Always null.")
    last_id: None = Field(None, description="Always null.")
    has_more: Literal[False] = False


def fine_tuning_view(job: Job) -> FineTuningView:
    """``job`` as OpenAI's clients see it."""
    asked: Mapping[str, Any] = job.fine_tuning or {}
    hyperparameters = _hyperparameters(asked.get("hyperparameters", {}))
    method: MethodName = asked.get("method", "supervised")
    settings = AskedSettings(hyperparameters=hyperparameters)
    reason = reason_of(job) if job.state == "failed" else None
    return FineTuningView(
        id=job.id,
        status=job.state,
        model=job.request["base_name"],
        fine_tuned_model=job.model_name if job.state == "succeeded" else None,
        created_at=int(job.created_at.timestamp()),
        finished_at=int(job.finished_at.timestamp()) if job.finished_at else None,
        estimated_finish=_estimated_finish(job),
        error=FineTuningError(code=reason["code"], message=reason["message"]) if reason else None,
        hyperparameters=hyperparameters,
        method=AskedMethod(
            type=method,
            supervised=settings if method == "supervised" else None,
            dreambooth=settings if method == "dreambooth" else None,
        ),
        metadata={pair["key"]: pair["value"] for pair in asked.get("metadata", ())},
        organization_id=job.tenant,
        seed=job.request["seed"],
        training_file=asked.get("training_file", ""),
    )


def _hyperparameters(asked: Mapping[str, Any]) -> AskedHyperparameters:
    return AskedHyperparameters(
        **{
            name: "auto" if asked.get(name) is None else asked[name]
            for name in ("n_epochs", "batch_size", "learning_rate_multiplier")
        }
    )


def _estimated_finish(job: Job) -> int | None:
    remaining_s = (job.progress or {}).get("remaining_s")
    if job.state != "running" or remaining_s is None:
        return None
    return int(datetime.now(UTC).timestamp() + remaining_s)
