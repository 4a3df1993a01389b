"""The HTTP routes: the seed's two, and ``/v1``'s. Views only translate; the work is in the modules they call."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

from flask import Response, request
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.dreambooth_api.base_listing import list_bases
from enlight.dreambooth_api.bases import BaseCatalogue
from enlight.dreambooth_api.generations import Generations
from enlight.dreambooth_api.requests import SAMPLE_FIELDS, GenerationResult
from enlight.dreambooth_api.schemas import (
    BaseModelList,
    EventsHeaders,
    GenerationAnswer,
    GenerationBody,
    InferenceAnswer,
    InferenceBody,
    PhotosCheckAnswer,
    PhotosCheckBody,
    PhotoView,
    PhotoWarningView,
    TrainAnswer,
    TrainBody,
    TrainingBody,
    TrainingList,
    TrainingListQuery,
    TrainingPath,
    TrainingView,
)
from enlight.dreambooth_api.training_answers import NO_MODEL_MADE, event_answers
from enlight.dreambooth_api.training_events import EventStreams
from enlight.dreambooth_api.training_jobs import TrainingJob
from enlight.dreambooth_api.training_queue import TrainingQueue
from enlight.dreambooth_api.training_requests import CheckedPhotos, TrainingChecker
from enlight.servicekit.errors import ClientGone
from enlight.servicekit.http import client_gone
from enlight.servicekit.images import to_base64
from enlight.servicekit.schemas import ErrorBody
from enlight.servicekit.worker_service import CLIENT_CHECK_S

_ERRORS: ResponseDict = {"503": ErrorBody}
_NO_TRAINING: ResponseDict = {"404": ErrorBody}
_NO_MODEL: ResponseDict = {"404": ErrorBody, "504": ErrorBody}
_EVENTS = event_answers("state", "progress")
_TRAINING = Tag(name="training", description="Photos in, a model of the subject in the bucket.")
_INFERENCE = Tag(name="inference", description="Pictures of a subject from its model.")
_BASES = Tag(name="base models", description="What trainings start from.")


def training_routes(checker: TrainingChecker, queue: TrainingQueue, streams: EventStreams) -> APIBlueprint:
    """``/train`` and ``/v1/trainings``."""
    routes = APIBlueprint("training", __name__, abp_tags=[_TRAINING], abp_responses=_ERRORS)

    @routes.post("/train", summary="Train and wait for the end", responses={"200": TrainAnswer, **NO_MODEL_MADE})
    def train(body: TrainBody) -> dict[str, Any]:
        """Teaches a model the subject of the photos and answers when it is in the bucket. An identical request
        after an interruption goes on from the last checkpoint. A client that leaves cancels the training."""
        checked = checker.from_train_body(body)
        job = queue.submit(checked.request, checked.photos, detached=False, warnings=checked.warnings)
        _wait_for_end(queue, job, partial(client_gone, request.environ))
        warnings = [warning.message for warning in job.warnings]
        answer = TrainAnswer(model_id=job.request.model_id, warnings=warnings or None)
        return answer.model_dump(exclude_none=True)

    @routes.post("/v1/photos/check", summary="Check photos", responses={"200": PhotosCheckAnswer})
    def check_photos(body: PhotosCheckBody) -> dict[str, Any]:
        """Says what a training would warn of: photos that are too small, blurred, nearly the same, without a visible
        subject. Nothing is kept, and nothing that can be trained on is refused."""
        return _photos_answer(checker.from_photos_check_body(body)).model_dump()

    @routes.post("/v1/trainings", summary="Start a training", responses={"202": TrainingView, "409": ErrorBody})
    def start_training(body: TrainingBody) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Accepts a training and answers at once. It goes on without its client, and over a restart of the service."""
        checked = checker.from_training_body(body)
        job = queue.submit(checked.request, checked.photos, detached=True, warnings=checked.warnings)
        return _view(queue, job), 202, {"Location": f"/v1/trainings/{job.id}"}

    @routes.get("/v1/trainings", summary="List trainings", responses={"200": TrainingList})
    def list_trainings(query: TrainingListQuery) -> dict[str, Any]:
        """The trainings started on this route, newest first."""
        return {"trainings": [_view(queue, job) for job in queue.list(query.state, query.limit)]}

    @routes.get(
        "/v1/trainings/<training_id>", summary="Show a training", responses={"200": TrainingView, **_NO_TRAINING}
    )
    def show_training(path: TrainingPath) -> dict[str, Any]:
        """State, step, loss, rate and remaining seconds."""
        return _view(queue, queue.get(path.training_id))

    @routes.get("/v1/trainings/<training_id>/events", summary="Follow a training", responses=_EVENTS)
    def follow_training(path: TrainingPath, header: EventsHeaders) -> Response:
        """Server-sent events `state` and `progress` until the training ends; resumable by Last-Event-ID."""
        stream = streams.open(queue.get(path.training_id), header.last_event_id)
        return Response(stream, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @routes.post(
        "/v1/trainings/<training_id>/cancel",
        summary="Cancel a training",
        responses={"202": TrainingView, "409": ErrorBody, **_NO_TRAINING},
    )
    def cancel_training(path: TrainingPath) -> tuple[dict[str, Any], int]:
        """Ends the training within one step; nothing is published."""
        job = queue.get(path.training_id)
        queue.cancel(job)
        return _view(queue, job), 202

    return routes


def inference_routes(generations: Generations) -> APIBlueprint:
    """``/inference`` and ``/v1/generations``."""
    routes = APIBlueprint("inference", __name__, abp_tags=[_INFERENCE], abp_responses=_ERRORS)

    @routes.post("/inference", summary="Generate pictures", responses={"200": InferenceAnswer, **_NO_MODEL})
    def inference(body: InferenceBody) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Makes `num_image` pictures with the model `model_id`."""
        result = generations.run(generations.from_inference_body(body), partial(client_gone, request.environ))
        images = [to_base64(image) for image in result.images]
        return {"message": "Inference is done.", "images": images}, 200, _what_ran(result)

    @routes.post(
        "/v1/generations", summary="Generate pictures, in detail", responses={"200": GenerationAnswer, **_NO_MODEL}
    )
    def generate(body: GenerationBody) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Makes pictures with a trained model or a base model; says what really ran. The same seed gives the same
        pictures."""
        result = generations.run(generations.from_generation_body(body), partial(client_gone, request.environ))
        answer = GenerationAnswer(
            images=[to_base64(image) for image in result.images],
            format=result.image_format,
            model_id=result.model_id,
            model_version=result.model_version,
            base_model=result.base_name,
            seed=result.seed,
            num_inference_steps=result.steps,
            strength=result.strength,
            guidance_scale=result.guidance_scale,
            scheduler=result.scheduler,
            width=result.width_px,
            height=result.height_px,
            batch_images=result.batch_images,
            cache_tier=result.cache_tier,
            queued_s=round(result.queued_s, 4),
            run_s=round(result.run_s, 4),
        )
        return answer.model_dump(), 200, _what_ran(result)

    return routes


def base_model_routes(catalogue: BaseCatalogue, *, default: str) -> APIBlueprint:
    """``/v1/base-models``; ``default`` is the base of a request that names none."""
    routes = APIBlueprint("base_models", __name__, abp_tags=[_BASES], abp_responses=_ERRORS)

    @routes.get("/v1/base-models", summary="List base models", responses={"200": BaseModelList})
    def list_base_models() -> dict[str, Any]:
        """The base models that may be used, their sizes and their training presets."""
        return list_bases(catalogue, default=default).model_dump()

    return routes


def _photos_answer(checked: CheckedPhotos) -> PhotosCheckAnswer:
    return PhotosCheckAnswer(
        ok=not checked.warnings,
        base_model=checked.base_name,
        resolution=checked.resolution_px,
        photos=[
            PhotoView(
                width_px=look.width_px,
                height_px=look.height_px,
                warnings=[warning.code for warning in checked.warnings if index in warning.photos],
            )
            for index, look in enumerate(checked.looks)
        ],
        warnings=[PhotoWarningView(**dataclasses.asdict(warning)) for warning in checked.warnings],
    )


def _wait_for_end(queue: TrainingQueue, job: TrainingJob, gone: Callable[[], bool]) -> None:
    with queue.waiting_client(job):
        while not job.wait(CLIENT_CHECK_S):
            if gone():
                raise ClientGone("The client left before the training's end; the training is cancelled.")
    if job.error is not None:
        raise job.error


def _what_ran(result: GenerationResult) -> dict[str, str]:
    return {
        "X-Model-Version": result.model_version or result.base_name,
        "X-Seed": str(result.seed),
        "X-Scheduler": result.scheduler,
        "X-Steps": str(result.steps),
        "X-Batch-Images": str(result.batch_images),
        "X-Cache-Tier": result.cache_tier,
        "X-Queued-Seconds": f"{result.queued_s:.4f}",
        "X-Run-Seconds": f"{result.run_s:.4f}",
    }


def _view(queue: TrainingQueue, job: TrainingJob) -> dict[str, Any]:
    parameters = dataclasses.asdict(job.request)
    for known in ("photos", "model_id", "base_name", "preset", *SAMPLE_FIELDS):  # samples: behind the gateway only
        del parameters[known]
    return {
        "id": job.id,
        "state": job.state,
        "model_id": job.request.model_id,
        "model_version": job.outcome.version if job.outcome else None,
        "base_model": job.request.base_name,
        "preset": job.request.preset,
        "created_at": job.created_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
        "attempt": job.attempt,
        "request_id": job.request_id,
        "position": queue.position(job),
        "progress": dataclasses.asdict(job.progress) if job.progress else None,
        "error": {"code": job.error.code, "message": job.error.message, "details": job.error.details}
        if job.error
        else None,
        "warnings": [dataclasses.asdict(warning) for warning in job.warnings],
        "parameters": {**parameters, "num_photos": len(job.request.photos)},
    }
