"""The HTTP routes: the seed's one, and ``/v1``'s. Views only translate; the work is in the worker."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

from flask import Response, request
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.servicekit.http import client_gone
from enlight.servicekit.http_pictures import picture_answer, picture_body
from enlight.servicekit.http_uploads import uploaded_file
from enlight.servicekit.images import decode_base64, to_base64
from enlight.servicekit.schemas import ErrorBody
from enlight.servicekit.text_options import read_options
from enlight.servicekit.worker_service import WorkerService
from enlight.upsampler.requests import UpscaleRequest, UpscaleResult
from enlight.upsampler.schemas import (
    ModelList,
    ModelView,
    UpsamplerAnswer,
    UpsamplerBody,
    UpscaleParameters,
)
from enlight.upsampler.upscale_requests import UpscaleRequests
from enlight.upsampler.weights import MODEL, ModelFolder

FORM_FIELDS = ("image", "file")
_ERRORS: ResponseDict = {str(status): ErrorBody for status in (503, 504)}
_UPSCALING = Tag(name="upscaling", description="Four times as many pixels a side, drawn by a diffusion model.")
_UPLOAD = picture_body(UpscaleParameters, form_fields=FORM_FIELDS)
_PICTURE = picture_answer(
    {
        "X-Seed": "The seed that was used.",
        "X-Steps": "Denoising steps.",
        "X-Windows": "Windows of the network and of the decoder.",
        "X-Run-Seconds": "Time that the worker took.",
    }
)


def upscaling_routes(requests: UpscaleRequests, service: WorkerService, folder: ModelFolder) -> APIBlueprint:
    """``/upsampler``, ``/v1/upscale`` and ``/v1/models``."""
    routes = APIBlueprint("upscaling", __name__, abp_tags=[_UPSCALING], abp_responses=_ERRORS)

    @routes.post("/upsampler", summary="Enlarge by a diffusion model", responses={"200": UpsamplerAnswer})
    def upsampler(body: UpsamplerBody) -> dict[str, Any]:
        """Enlarges a picture to 1024 or 2048 pixels on its long side, guided by what the prompt says of it. The same
        request gives the same picture."""
        result = _run(service, requests.from_body(body, decode_base64(body.image, "image")))
        return UpsamplerAnswer(image=to_base64(result.image), message=_message(result)).model_dump()

    @routes.post(
        "/v1/upscale",
        summary="Enlarge by a diffusion model, bytes in and out",
        responses=_PICTURE,
        request_body=_UPLOAD,
    )
    def upscale(query: UpscaleParameters) -> Response:
        """Takes the picture's bytes as the body (`image/*` or `application/octet-stream`) with the parameters in the
        query, or a form with the picture in `image` and the parameters beside it."""
        upload = uploaded_file(request, form_fields=FORM_FIELDS)
        asked = requests.from_upload(upload, read_options(UpscaleParameters, request.args, upload.form))
        result = _run(service, asked)
        headers = {
            "X-Seed": str(asked.seed),
            "X-Steps": str(asked.steps),
            "X-Windows": f"{result.windows[0]}, {result.windows[1]}",
            "X-Run-Seconds": f"{result.run_s:.4f}",
        }
        return Response(result.image, content_type=f"image/{result.image_format}", headers=headers)

    @routes.get("/v1/models", summary="Which model this is", responses={"200": ModelList})
    def models() -> dict[str, Any]:
        """The one model that is allowed, and whether its weights are on this machine."""
        missing = folder.missing()
        view = ModelView(
            id=MODEL, revision=folder.commit, weights_here=not missing, missing_files=missing, resolutions=[1024, 2048]
        )
        return ModelList(models=[view]).model_dump()

    return routes


def _run(service: WorkerService, asked: UpscaleRequest) -> UpscaleResult:
    return cast(UpscaleResult, service.run(asked, partial(client_gone, request.environ)))


def _message(result: UpscaleResult) -> str:
    size = f"{result.width_px} x {result.height_px} pixels"
    return f"The picture is a {result.image_format.upper()} of {size} and {len(result.image):,} bytes."
