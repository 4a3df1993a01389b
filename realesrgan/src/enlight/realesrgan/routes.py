"""The HTTP routes: what they accept and answer; everything else is done elsewhere."""

from __future__ import annotations

from functools import partial
from typing import Any

from flask import Response, request
from flask_openapi.models.tag import Tag
from flask_openapi.openapi import APIBlueprint
from flask_openapi.types import ResponseDict

from enlight.realesrgan.requests import UpscaleResult
from enlight.realesrgan.schemas import ModelList, UpsamplerAnswer, UpsamplerBody, UpscaleParameters
from enlight.realesrgan.upscales import FILE_FIELDS, Upscales
from enlight.servicekit.http import client_gone
from enlight.servicekit.http_pictures import picture_answer, picture_body
from enlight.servicekit.http_uploads import uploaded_file
from enlight.servicekit.images import to_base64
from enlight.servicekit.schemas import ErrorBody

_ERRORS: ResponseDict = {str(status): ErrorBody for status in (503, 504)}
_UPSCALING = Tag(name="upscaling", description="Pictures in, larger pictures out.")
WHAT_RAN = {
    "X-Width": "Pixels.",
    "X-Height": "Pixels.",
    "X-Passes": "Passes through the network.",
    "X-Faces": "Faces restored.",
    "X-Decode-Seconds": "Time that reading the picture took.",
    "X-Network-Seconds": "Time that the network took.",
    "X-Encode-Seconds": "Time that writing the picture took.",
}
"""Headers of good answers, and what each one tells."""
_UPLOAD = picture_body(UpscaleParameters, form_fields=FILE_FIELDS)
_PICTURE = picture_answer(WHAT_RAN)


def upscaling_routes(upscales: Upscales) -> APIBlueprint:
    """``/upsampler`` and ``/v1``."""
    routes = APIBlueprint("upscaling", __name__, abp_tags=[_UPSCALING], abp_responses=_ERRORS)

    @routes.post("/upsampler", summary="Enlarge by Real-ESRGAN", responses={"200": UpsamplerAnswer})
    def upsampler(body: UpsamplerBody) -> tuple[dict[str, Any], int, dict[str, str]]:
        """Enlarges the picture so that its long side has `out_resolution` pixels; the aspect, transparency and 16
        bits are kept."""
        asked = upscales.from_body(body)
        result = upscales.run(asked, partial(client_gone, request.environ))
        answer = UpsamplerAnswer(
            image=to_base64(result.data),
            message=f"{result.width_px} x {result.height_px} pixels from {asked.model_name}.",
        )
        return answer.model_dump(), 200, _what_ran(result)

    @routes.post(
        "/v1/upscale", summary="Enlarge by Real-ESRGAN, bytes in and out", responses=_PICTURE, request_body=_UPLOAD
    )
    def upscale(query: UpscaleParameters) -> Response:
        """Takes the picture's bytes as the body (`image/*` or `application/octet-stream`) with the parameters in the
        query, or a form with the picture in `file` and the parameters beside it."""
        asked = upscales.from_upload(uploaded_file(request, form_fields=FILE_FIELDS), request.args)
        result = upscales.run(asked, partial(client_gone, request.environ))
        return Response(result.data, mimetype=f"image/{result.image_format}", headers=_what_ran(result))

    @routes.get("/v1/models", summary="List models", responses={"200": ModelList})
    def models() -> dict[str, Any]:
        """The models, which have their weights on disk, and which file is missing."""
        return upscales.models().model_dump()

    return routes


def _what_ran(result: UpscaleResult) -> dict[str, str]:
    return {
        "X-Width": str(result.width_px),
        "X-Height": str(result.height_px),
        "X-Passes": str(result.passes),
        "X-Faces": str(result.faces),
        "X-Decode-Seconds": f"{result.decode_s:.4f}",
        "X-Network-Seconds": f"{result.network_s:.4f}",
        "X-Encode-Seconds": f"{result.encode_s:.4f}",
    }
