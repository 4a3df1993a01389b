"""The routes of dreambooth-api under the gateway's roof, for models by their tenants' names."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.dreambooth_api.schemas import (
    BaseModelList,
    GenerationAnswer,
    GenerationBody,
    InferenceAnswer,
    InferenceBody,
    PhotosCheckAnswer,
    PhotosCheckBody,
)
from enlight.main_api.upstreams.forwarding import Forwarder, found_response
from enlight.main_api.upstreams.generator import Generator, has_seed
from enlight.main_api.upstreams.upstream import Upstream
from enlight.servicekit.schemas import ErrorBody

_ERRORS: ResponseDict = {str(status): ErrorBody for status in (502, 504)}
_NO_MODEL: ResponseDict = {"404": ErrorBody}
_INFERENCE = Tag(name="inference", description="Pictures of a subject from its model.")
_PHOTOS: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": PhotosCheckBody.model_json_schema()}},
}


def inference_routes(dreambooth: Upstream, forwarder: Forwarder, generator: Generator) -> APIBlueprint:
    """``/inference``, ``/v1/generations``, ``/v1/photos/check`` and ``/v1/base-models``."""
    routes = APIBlueprint("inference", __name__, abp_tags=[_INFERENCE], abp_responses=_ERRORS)

    def generated(path: str, body: InferenceBody | GenerationBody) -> Response:
        found, held = generator.ask(path, body)
        return found_response(found, held, tell=has_seed(body))

    @routes.post("/inference", summary="Generate pictures", responses={"200": InferenceAnswer, **_NO_MODEL})
    def inference(body: InferenceBody) -> Response:
        """Makes `num_image` pictures with the model `model_id`."""
        return generated("/inference", body)

    @routes.post(
        "/v1/generations", summary="Generate pictures, in detail", responses={"200": GenerationAnswer, **_NO_MODEL}
    )
    def generate(body: GenerationBody) -> Response:
        """Makes pictures with a trained model or a base model; says what really ran. With a `seed`, equal requests are
        computed once: `X-Cache` says so, and the rest then tells of the run that made the pictures."""
        return generated("/v1/generations", body)

    @routes.post("/v1/photos/check", summary="Check photos", responses={"200": PhotosCheckAnswer}, request_body=_PHOTOS)
    def check_photos() -> Response:
        """Says what a training would warn of. Nothing is kept."""
        return forwarder.send_on(dreambooth, "/v1/photos/check", "json", keep=False)

    @routes.get("/v1/base-models", summary="List base models", responses={"200": BaseModelList})
    def list_base_models() -> Response:
        """The base models that may be used, their sizes and their training presets."""
        return forwarder.send_on(dreambooth, "/v1/base-models", "json", keep=False)

    return routes
