"""Pictures of a tenant's models: the tenant's name of a model goes in and comes back, the bucket's id stays behind."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from flask import Response
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict
from pydantic import BaseModel

from enlight.dreambooth_api.schemas import (
    BaseModelList,
    GenerationAnswer,
    GenerationBody,
    InferenceAnswer,
    InferenceBody,
    PhotosCheckAnswer,
    PhotosCheckBody,
)
from enlight.main_api.keys.authentication import current_caller
from enlight.main_api.models.lookup import ModelLookup
from enlight.main_api.models.served_versions import ServedVersions
from enlight.main_api.upstreams.answers import renamed
from enlight.main_api.upstreams.forwarding import Forwarder, found_response
from enlight.main_api.upstreams.upstream import Upstream
from enlight.main_api.usage.records import usage_notes
from enlight.servicekit.schemas import ErrorBody

_ERRORS: ResponseDict = {str(status): ErrorBody for status in (502, 504)}
_NO_MODEL: ResponseDict = {"404": ErrorBody}
_INFERENCE = Tag(name="inference", description="Pictures of a subject from its model.")
_PHOTOS: dict[str, Any] = {
    "required": True,
    "content": {"application/json": {"schema": PhotosCheckBody.model_json_schema()}},
}


def inference_routes(
    dreambooth: Upstream, forwarder: Forwarder, models: ModelLookup, versions: ServedVersions
) -> APIBlueprint:
    """``/inference``, ``/v1/generations``, ``/v1/photos/check`` and ``/v1/base-models``."""
    routes = APIBlueprint("inference", __name__, abp_tags=[_INFERENCE], abp_responses=_ERRORS)

    def generated(path: str, body: InferenceBody | GenerationBody) -> Response:
        name = body.model_id
        usage_notes().model = name
        # Without a seed each request has pictures of its own.
        is_kept = isinstance(body, GenerationBody) and body.seed is not None
        if "/" in name:  # a base model's; no tenant's name holds a slash
            version = versions.of_base(name) if is_kept else None
            found, held = forwarder.ask(dreambooth, path, body=_json(body), model_id=None, version=version)
            return found_response(found, held, tell=is_kept)
        bucket_id = models.bucket_id(current_caller().tenant, name)
        version = versions.of_model(bucket_id) if is_kept else None
        asked = _json(body.model_copy(update={"model_id": bucket_id}))
        found, held = forwarder.ask(dreambooth, path, body=asked, model_id=bucket_id, version=version)
        response = found_response(replace(found, answer=renamed(found.answer, bucket_id, name)), held, tell=is_kept)
        if found.answer.status == 200:
            response.call_on_close(partial(models.note_use, bucket_id))
        return response

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


def _json(body: BaseModel) -> bytes:
    return body.model_dump_json(exclude_unset=True).encode()
