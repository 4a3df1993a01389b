"""The training routes: the seed's, and ``/v1``'s. Views only translate; the work is in the modules they call."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, request
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.dreambooth_api.schemas import (
    EventsHeaders,
    TrainAnswer,
    TrainBody,
    TrainingPath,
)
from enlight.dreambooth_api.training_answers import NO_MODEL_MADE, event_answers
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.limits.admission import ByteBudget
from enlight.main_api.trainings.history import TrainingLog, TrainingLogQuery, TrainingLosses
from enlight.main_api.trainings.samples import TrainingJobBody, TrainingSamplePath, find_sample
from enlight.main_api.trainings.service import TrainingService
from enlight.main_api.trainings.start_training import StartHeaders
from enlight.main_api.trainings.views import TrainingJobView, TrainingPage, TrainingPageQuery
from enlight.main_api.unchanging_files import unchanging_file
from enlight.main_api.webhooks.webhooks import WebhookSecretView
from enlight.servicekit.http import client_gone
from enlight.servicekit.schemas import ErrorBody

_NO_TRAINING: ResponseDict = {"404": ErrorBody}
_REFUSED: ResponseDict = {**_NO_TRAINING, "409": ErrorBody}
_EVENTS = event_answers("state", "progress", "sample")
_SAMPLE: ResponseDict = {
    "200": {
        "description": "The picture.",
        "content": {"image/png": {"schema": {"type": "string", "format": "binary"}}},
    },
    **_NO_TRAINING,
}
_TRAINING = Tag(name="training", description="Photos in, a model of the subject in the bucket.")


def training_routes(trainings: TrainingService, budget: ByteBudget) -> APIBlueprint:
    """``/train``, ``/v1/trainings`` and ``/v1/webhook-secret``."""
    routes = APIBlueprint("training", __name__, abp_tags=[_TRAINING])

    @routes.post(
        "/train",
        summary="Train and wait for the end",
        responses={"200": TrainAnswer, **_NO_TRAINING, **NO_MODEL_MADE},
    )
    def train(header: StartHeaders, body: TrainBody) -> dict[str, Any]:
        """Teaches a model the subject of the photos and answers when it is in the bucket. The training goes on when
        its client leaves; the same body sent again joins it."""
        options = trainings.options(header, body)
        checked = trainings.checker.from_train_body(body)
        job = trainings.train(current_caller().tenant, checked, options, partial(client_gone, request.environ))
        warnings = [warning["message"] for warning in job.warnings]
        return TrainAnswer(model_id=job.model_name, warnings=warnings or None).model_dump(exclude_none=True)

    @routes.post("/v1/trainings", summary="Start a training", responses={"202": TrainingJobView, "409": ErrorBody})
    def start_training(header: StartHeaders, body: TrainingJobBody) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Accepts a training and answers at once. It goes on without its client, and over the death of any
        machine."""
        job = trainings.start_training(current_caller().tenant, body, trainings.options(header, body))
        return trainings.view(job), 202, {"Location": f"/v1/trainings/{job.id}"}

    @routes.get("/v1/trainings", summary="List trainings", responses={"200": TrainingPage})
    def list_trainings(query: TrainingPageQuery) -> dict[str, Any]:
        """The trainings of both routes, newest first."""
        return trainings.page(current_caller().tenant, query)

    @routes.get(
        "/v1/trainings/<training_id>", summary="Show a training", responses={"200": TrainingJobView, **_NO_TRAINING}
    )
    def show_training(path: TrainingPath) -> dict[str, Any]:
        """State, step, loss, rate, remaining seconds, and what it took so far."""
        return trainings.view(trainings.get(current_caller().tenant, path.training_id))

    @routes.get("/v1/trainings/<training_id>/events", summary="Follow a training", responses=_EVENTS)
    def follow_training(path: TrainingPath, header: EventsHeaders) -> Response:
        """Server-sent events `state`, `progress` and `sample` until the training ends; resumable by Last-Event-ID."""
        job = trainings.get(current_caller().tenant, path.training_id)
        stream = trainings.events.open(job, header.last_event_id)
        return Response(stream, mimetype="text/event-stream", headers={"X-Accel-Buffering": "no"})

    @routes.get("/v1/trainings/<training_id>/samples/<step>", summary="Take a sample of a training", responses=_SAMPLE)
    def training_sample(path: TrainingSamplePath) -> Response:
        """A picture that the training made of itself after so many updates, a PNG. It never changes."""
        job = trainings.get(current_caller().tenant, path.training_id)
        sample = find_sample(job, path.step)
        read = partial(trainings.read_sample, job, sample)
        return unchanging_file(
            budget, etag=sample.sha256, size_bytes=sample.size_bytes, media_type="image/png", read=read
        )

    @routes.get(
        "/v1/trainings/<training_id>/losses",
        summary="Show a training's losses",
        responses={"200": TrainingLosses, **_NO_TRAINING},
    )
    def training_losses(path: TrainingPath) -> dict[str, Any]:
        """How the loss went, over all attempts; a few seconds old."""
        return trainings.losses(current_caller().tenant, path.training_id)

    @routes.get(
        "/v1/trainings/<training_id>/log",
        summary="Show a training's log",
        responses={"200": TrainingLog, **_NO_TRAINING},
    )
    def show_training_log(path: TrainingPath, query: TrainingLogQuery) -> dict[str, Any]:
        """What happened to the training, over all attempts and workers; a few seconds old."""
        caller = current_caller()
        return trainings.log(
            caller.tenant, path.training_id, max_lines=query.lines, with_traces=caller.scope == "admin"
        )

    @routes.post(
        "/v1/trainings/<training_id>/retry",
        summary="Try a training again",
        responses={"202": TrainingJobView, **_REFUSED},
    )
    def retry_training(path: TrainingPath, header: StartHeaders) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Accepts a new training of the same photos and parameters as one that failed or was cancelled. Until that has
        ended, the same request again gives it too."""
        job = trainings.retry(current_caller().tenant, path.training_id, trainings.options(header, path))
        return trainings.view(job), 202, {"Location": f"/v1/trainings/{job.id}"}

    @routes.post(
        "/v1/trainings/<training_id>/cancel",
        summary="Cancel a training",
        responses={"202": TrainingJobView, **_REFUSED},
    )
    def cancel_training(path: TrainingPath) -> tuple[dict[str, Any], int]:
        """Ends the training within one step; nothing is published."""
        return trainings.view(trainings.cancel(current_caller().tenant, path.training_id)), 202

    @routes.delete("/v1/trainings/<training_id>", summary="Forget a training", responses={"204": None, **_REFUSED})
    def delete_training(path: TrainingPath) -> Response:
        """Removes an ended training with its log, samples and photos, and a webhook that was not delivered yet. The
        model stays."""
        trainings.delete(current_caller().tenant, path.training_id)
        response = Response(status=204)
        del response.headers["Content-Type"]  # Flask's own, of a body that is not there
        return response

    @routes.get("/v1/webhook-secret", summary="Show the webhooks' secret", responses={"200": WebhookSecretView})
    def show_webhook_secret() -> dict[str, Any]:
        """What the signatures of this tenant's webhooks are checked with."""
        return WebhookSecretView(secret=trainings.secrets.secret_of(current_caller().tenant)).model_dump()

    return routes
