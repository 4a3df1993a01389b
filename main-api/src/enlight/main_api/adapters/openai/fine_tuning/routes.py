"""``/v1/fine_tuning/jobs``: trainings as OpenAI's clients start and follow them; the work is `TrainingService`'s."""

from __future__ import annotations

import dataclasses
from typing import Any

from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.adapters.openai.errors import answer_openai_error
from enlight.main_api.adapters.openai.files.store import UploadedFiles
from enlight.main_api.adapters.openai.fine_tuning.body import FineTuning, FineTuningBody
from enlight.main_api.adapters.openai.fine_tuning.events import FineTuningEventPage, event_page
from enlight.main_api.adapters.openai.fine_tuning.views import (
    CheckpointPage,
    CheckpointsQuery,
    FineTuningEventsQuery,
    FineTuningListQuery,
    FineTuningPage,
    FineTuningPath,
    FineTuningView,
    fine_tuning_view,
)
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.trainings.service import TrainingService
from enlight.main_api.trainings.start_training import StartHeaders
from enlight.servicekit.errors import Conflict
from enlight.servicekit.images import to_base64
from enlight.servicekit.schemas import ErrorBody

_NO_JOB: ResponseDict = {"404": ErrorBody}
_REFUSED: ResponseDict = {**_NO_JOB, "409": ErrorBody}
_JOB: ResponseDict = {"200": FineTuningView, **_REFUSED}
_FINE_TUNING = Tag(name="OpenAI: fine-tuning", description="Trainings as OpenAI's clients start and follow them.")
_JOBS = "/v1/fine_tuning/jobs"


def fine_tuning_routes(trainings: TrainingService, files: UploadedFiles, budget: ByteBudget) -> APIBlueprint:
    """``/v1/fine_tuning/jobs``."""
    routes = APIBlueprint("openai_fine_tuning", __name__, abp_tags=[_FINE_TUNING])
    routes.register_error_handler(Exception, answer_openai_error)

    @routes.post(_JOBS, summary="Start a fine-tuning job", responses=_JOB)
    def create_fine_tuning_job(header: StartHeaders, body: FineTuningBody) -> dict[str, Any]:
        """Trains the base model on the photos of an uploaded file, as `POST /v1/trainings` does. The same request again
        gives the same job as long as that has not ended."""
        tenant = current_caller().tenant
        options = trainings.options(header, body)
        tuning = FineTuning(body, made_name=_made_name(body.model, options.body_digest))
        file = files.records.get(tenant, body.training_file)
        with budget.share() as share, tuning.own_words():
            share.take(file.photos_bytes * 7 // 3)  # in base64, which a training's body has, and decoded from there
            photos = [to_base64(photo) for photo in files.photos(file)]
            training = tuning.training_body(photos, trainings.checker.parameters_of)
            options = dataclasses.replace(options, fine_tuning=tuning.told_back())
            job = trainings.start_training(tenant, training, options, join=True)
        return fine_tuning_view(job).model_dump()

    @routes.get(_JOBS, summary="List fine-tuning jobs", responses={"200": FineTuningPage})
    def list_fine_tuning_jobs(query: FineTuningListQuery) -> dict[str, Any]:
        """All of the tenant's trainings, newest first, those of `/v1/trainings` too; with `metadata[KEY]=VALUE` only
        jobs that have this among their metadata."""
        found = trainings.jobs(
            current_caller().tenant, limit=query.limit + 1, before=query.after, metadata=query.metadata()
        )
        shown = [fine_tuning_view(job) for job in found[: query.limit]]
        return FineTuningPage(data=shown, has_more=len(found) > len(shown)).model_dump()

    @routes.get(
        f"{_JOBS}/<fine_tuning_job_id>",
        summary="Show a fine-tuning job",
        responses={"200": FineTuningView, **_NO_JOB},
    )
    def show_fine_tuning_job(path: FineTuningPath) -> dict[str, Any]:
        """Its state; `fine_tuned_model` generates once it has succeeded."""
        return fine_tuning_view(trainings.get(current_caller().tenant, path.fine_tuning_job_id)).model_dump()

    @routes.get(
        f"{_JOBS}/<fine_tuning_job_id>/events",
        summary="List a fine-tuning job's events",
        responses={"200": FineTuningEventPage, **_NO_JOB},
    )
    def list_fine_tuning_events(path: FineTuningPath, query: FineTuningEventsQuery) -> dict[str, Any]:
        """What happened to it, newest first; a few seconds old."""
        job = trainings.get(current_caller().tenant, path.fine_tuning_job_id)
        return event_page(job, trainings.history(job), limit=query.limit, after=query.after).model_dump()

    @routes.get(
        f"{_JOBS}/<fine_tuning_job_id>/checkpoints",
        summary="List a fine-tuning job's checkpoints",
        responses={"200": CheckpointPage, **_NO_JOB},
    )
    def list_fine_tuning_checkpoints(path: FineTuningPath, query: CheckpointsQuery) -> dict[str, Any]:
        """None: what a training saves on its way is for going on with it, and no model that generates."""
        trainings.get(current_caller().tenant, path.fine_tuning_job_id)
        return CheckpointPage().model_dump()

    @routes.post(f"{_JOBS}/<fine_tuning_job_id>/cancel", summary="Cancel a fine-tuning job", responses=_JOB)
    def cancel_fine_tuning_job(path: FineTuningPath) -> dict[str, Any]:
        """Ends it within one step; nothing is published. One that runs is `cancelled` a moment later."""
        return fine_tuning_view(trainings.cancel(current_caller().tenant, path.fine_tuning_job_id)).model_dump()

    @routes.post(f"{_JOBS}/<fine_tuning_job_id>/pause", summary="Not supported: pause a job", responses=_REFUSED)
    def pause_fine_tuning_job(path: FineTuningPath) -> dict[str, Any]:
        """Always a 409."""
        raise _no_pause(trainings, path)

    @routes.post(f"{_JOBS}/<fine_tuning_job_id>/resume", summary="Not supported: resume a job", responses=_REFUSED)
    def resume_fine_tuning_job(path: FineTuningPath) -> dict[str, Any]:
        """Always a 409."""
        raise _no_pause(trainings, path)

    return routes


def _made_name(model: str, digest: str) -> str:
    """A model's name of the base's and the request: a request that is sent again makes no second model."""
    base = "".join(char if char.isascii() and char.isalnum() else "-" for char in model.rpartition("/")[2])
    return f"ft-{base[:40]}-{digest[:8]}"


def _no_pause(trainings: TrainingService, path: FineTuningPath) -> Conflict:
    trainings.get(current_caller().tenant, path.fine_tuning_job_id)
    return Conflict("A training here is not paused and resumed; cancel it, or let it run.")
