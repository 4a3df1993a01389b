"""The picture services' routes under the gateway's roof; bodies and answers are those of the services."""

from __future__ import annotations

from dataclasses import dataclass

from flask import Response
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.upstreams.answers import Promise
from enlight.main_api.upstreams.forwarding import Forwarder
from enlight.main_api.upstreams.services_behind import ServicesBehind
from enlight.servicekit.schemas import ErrorBody

_ERRORS: ResponseDict = {str(status): ErrorBody for status in (502, 504)}
_PICTURES = Tag(name="pictures", description="A picture in, a better one out. Equal requests are computed once.")


@dataclass(frozen=True)
class PictureRoute:
    """A POST that a service behind answers."""

    rule: str
    service: str
    path: str
    """Of the service."""
    promise: Promise


PICTURE_ROUTES = (
    PictureRoute("/remove", "bgrem", "/remove", "json"),
    PictureRoute("/remove-opacity", "bgrem", "/remove-opacity", "json"),
    PictureRoute("/upsampler", "upsampler", "/upsampler", "json"),
    PictureRoute("/realesrgan", "realesrgan", "/upsampler", "json"),
    PictureRoute("/v1/cutout", "bgrem", "/v1/cutout", "picture"),
    PictureRoute("/v1/upscale", "upsampler", "/v1/upscale", "picture"),
    PictureRoute("/v1/upscale/realesrgan", "realesrgan", "/v1/upscale", "picture"),
)
"""The seed's four, and ``/v1``'s three."""
REMBG_ROUTE = PictureRoute("/api/remove", "bgrem", "/api/remove", "picture")
"""That of rembg's own server, whose errors have another body."""


def image_routes(services: ServicesBehind, forwarder: Forwarder) -> APIBlueprint:
    """`PICTURE_ROUTES`. What they take and give is described by `picture_document`."""
    routes = APIBlueprint("images", __name__, abp_tags=[_PICTURES], abp_responses=_ERRORS)
    upstreams = {upstream.name: upstream for upstream in services.all()}

    def add(route: PictureRoute) -> None:
        def forward() -> Response:
            return forwarder.send_on(upstreams[route.service], route.path, route.promise)

        forward.__name__ = route.rule.removeprefix("/v1").strip("/").replace("/", "_").replace("-", "_")
        routes.post(route.rule)(forward)

    for route in PICTURE_ROUTES:
        add(route)
    return routes
