"""The picture services' routes under the gateway's roof; bodies and answers are those of the services."""

from __future__ import annotations

from typing import Any

from flask import Response
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.upstreams.answers import Promise
from enlight.main_api.upstreams.forwarding import Forwarder
from enlight.main_api.upstreams.services_behind import ServicesBehind
from enlight.main_api.upstreams.upstream import Upstream
from enlight.servicekit.schemas import ErrorBody

_ERRORS: ResponseDict = {str(status): ErrorBody for status in (400, 401, 413, 415, 422, 429, 502, 503, 504)}
_PICTURES = Tag(name="pictures", description="A picture in, a better one out. Equal requests are computed once.")

_BINARY = {"type": "string", "format": "binary"}
_ANSWERS: dict[Promise, ResponseDict] = {
    "json": {
        "200": {
            "description": "As the service answers",
            "content": {"application/json": {"schema": {"type": "object"}}},
        }
    },
    "picture": {
        "200": {
            "description": "The picture",
            "content": {f"image/{kind}": {"schema": _BINARY} for kind in ("png", "jpeg", "webp")},
        }
    },
}
_BODIES: dict[Promise, dict[str, Any]] = {
    "json": {"required": True, "content": {"application/json": {"schema": {"type": "object"}}}},
    "picture": {
        "required": True,
        "description": "The bytes of a picture, or a form with the file; options in the query or the form.",
        "content": {
            "application/octet-stream": {"schema": _BINARY},
            "multipart/form-data": {"schema": {"type": "object"}},
        },
    },
}


def image_routes(services: ServicesBehind, forwarder: Forwarder) -> APIBlueprint:
    """The seed's four routes, and ``/v1``'s three."""
    routes = APIBlueprint("images", __name__, abp_tags=[_PICTURES], abp_responses=_ERRORS)

    def add(rule: str, upstream: Upstream, path: str, promise: Promise, summary: str) -> None:
        def forward() -> Response:
            return forwarder.send_on(upstream, path, promise)

        forward.__name__ = rule.strip("/").replace("/", "_").replace("-", "_")
        forward.__doc__ = f"`{path}` of {upstream.name}, whose page describes the body and the answer."
        routes.post(rule, summary=summary, responses=_ANSWERS[promise], request_body=_BODIES[promise])(forward)

    add("/remove", services.bgrem, "/remove", "json", "Cut out, on white")
    add("/remove-opacity", services.bgrem, "/remove-opacity", "json", "Cut out, transparent")
    add("/upsampler", services.upsampler, "/upsampler", "json", "Enlarge by a diffusion model")
    add("/realesrgan", services.realesrgan, "/upsampler", "json", "Enlarge by Real-ESRGAN")
    add("/v1/cutout", services.bgrem, "/v1/cutout", "picture", "Cut out, bytes in and out")
    add("/v1/upscale", services.upsampler, "/v1/upscale", "picture", "Enlarge by a diffusion model, bytes in and out")
    add("/v1/upscale/realesrgan", services.realesrgan, "/v1/upscale", "picture", "Enlarge by Real-ESRGAN, bytes")
    return routes
