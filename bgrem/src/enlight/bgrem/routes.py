"""The HTTP routes: the seed's two, ``/v1``'s, and rembg's own. Views only translate; the worker does the work."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from flask import Response, request
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.bgrem.requests import WHITE, Colour, CutoutRequest, CutoutResult
from enlight.bgrem.schemas import (
    CutoutOptions,
    ModelList,
    ModelView,
    RembgOptions,
    RembgUrlQuery,
    RemoveAnswer,
    RemoveBody,
)
from enlight.bgrem.weights import MODELS
from enlight.servicekit.errors import InvalidField
from enlight.servicekit.http import client_gone
from enlight.servicekit.http_pictures import picture_answer, picture_body
from enlight.servicekit.http_uploads import uploaded_file
from enlight.servicekit.images import decode_base64, to_base64
from enlight.servicekit.schemas import ErrorBody
from enlight.servicekit.text_options import read_options
from enlight.servicekit.weight_files import WeightFolder
from enlight.servicekit.worker_service import WorkerService

_ERRORS: ResponseDict = {str(status): ErrorBody for status in (503, 504)}
_CUTOUT = Tag(name="background removal", description="A picture in, its subject out.")
_MODELS = Tag(name="models", description="The networks that find the subject.")

_FILE_FIELDS = ("file", "image")
_CUTOUT_BODY = picture_body(CutoutOptions, form_fields=_FILE_FIELDS)
_REMBG_BODY = picture_body(RembgOptions, form_fields=_FILE_FIELDS[:1])
_PICTURE = picture_answer({"X-Width": "Pixels.", "X-Height": "Pixels."})


def seed_routes(service: WorkerService) -> APIBlueprint:
    """``/remove`` and ``/remove-opacity``."""
    routes = APIBlueprint("seed", __name__, abp_tags=[_CUTOUT], abp_responses=_ERRORS)

    def removed(body: RemoveBody, background: Colour | None) -> dict[str, Any]:
        data = decode_base64(body.input_image, "input_image")
        result = _run(service, CutoutRequest(data, "input_image", body.model, background=background))
        return RemoveAnswer(output_image=to_base64(result.data)).model_dump()

    @routes.post("/remove", summary="Cut out, on white", responses={"200": RemoveAnswer})
    def remove(body: RemoveBody) -> dict[str, Any]:
        """The subject on a white background, as a PNG."""
        return removed(body, WHITE)

    @routes.post("/remove-opacity", summary="Cut out, transparent", responses={"200": RemoveAnswer})
    def remove_opacity(body: RemoveBody) -> dict[str, Any]:
        """The subject on nothing, as a PNG with transparency."""
        return removed(body, None)

    return routes


def cutout_routes(service: WorkerService) -> APIBlueprint:
    """``/v1/cutout``, and ``/api/remove`` for clients of rembg's server."""
    routes = APIBlueprint("cutout", __name__, abp_tags=[_CUTOUT], abp_responses=_ERRORS)

    @routes.post("/v1/cutout", summary="Cut out, in detail", responses=_PICTURE, request_body=_CUTOUT_BODY)
    def cutout(query: CutoutOptions) -> Response:
        """A picture as bytes in, as bytes out: with transparency, on a colour, or the mask alone."""
        upload = uploaded_file(request, form_fields=_FILE_FIELDS)
        return _answer(_run(service, read_options(CutoutOptions, request.args, upload.form).request(upload)))

    @routes.post("/api/remove", summary="As rembg's server", responses=_PICTURE, request_body=_REMBG_BODY)
    def rembg_remove(query: RembgOptions) -> Response:
        """The form of `rembg s`, version 2.0.86, with the models of this service. Answers with a PNG."""
        upload = uploaded_file(request, form_fields=_FILE_FIELDS[:1])
        return _answer(_run(service, read_options(RembgOptions, request.args, upload.form).request(upload)))

    @routes.get("/api/remove", summary="Not taken: pictures by address", responses={"422": ErrorBody})
    def rembg_remove_url(query: RembgUrlQuery) -> Response:
        """rembg's server would fetch the picture at `url`; this one fetches nothing, and answers 422."""
        raise InvalidField.of("url", "is not taken: send the picture itself, with POST")

    return routes


def model_routes(weights: WeightFolder) -> APIBlueprint:
    """``/v1/models``."""
    routes = APIBlueprint("models", __name__, abp_tags=[_MODELS], abp_responses=_ERRORS)

    @routes.get("/v1/models", summary="List models", responses={"200": ModelList})
    def list_models() -> dict[str, Any]:
        """The networks, whether each has its weights, and which file it needs."""
        default = RemoveBody.model_fields["model"].default
        views = [
            ModelView(
                name=name,
                description=model.description,
                weights_here=weights.has(model.weights),
                weights_file=model.weights.name,
                weights_sha256=model.weights.sha256,
                weights_source=model.weights.source,
                default=name == default,
            )
            for name, model in MODELS.items()
        ]
        return ModelList(models=views).model_dump()

    return routes


def _run(service: WorkerService, payload: CutoutRequest) -> CutoutResult:
    return cast(CutoutResult, service.run(payload, partial(client_gone, request.environ)))


def _answer(result: CutoutResult) -> Response:
    headers = {"X-Width": str(result.width_px), "X-Height": str(result.height_px)}
    return Response(result.data, mimetype=result.media_type, headers=headers)
