"""``/api/remove`` of rembg's server, which bgrem has; the gateway adds keys, limits, kept answers and its errors."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from flask import Response
from flask_openapi import APIBlueprint, Tag
from flask_openapi.types import ResponseDict

from enlight.main_api.adapters.rembg.errors import rembg_error_body
from enlight.main_api.upstreams.answers import UpstreamAnswer, raise_error_of
from enlight.main_api.upstreams.forwarding import Forwarder
from enlight.main_api.upstreams.routes_images import REMBG_ROUTE
from enlight.main_api.upstreams.upstream import Upstream
from enlight.servicekit.http_errors import answer_error
from enlight.servicekit.schemas import ErrorBody

_ERRORS: ResponseDict = {str(status): ErrorBody for status in (502, 504)}
_REMBG = Tag(name="rembg", description="As rembg's own server, `rembg s`.")


def rembg_routes(bgrem: Upstream, forwarder: Forwarder) -> APIBlueprint:
    """The route. What it takes and gives is described by `picture_document`."""
    routes = APIBlueprint("rembg", __name__, abp_tags=[_REMBG], abp_responses=_ERRORS)
    routes.register_error_handler(Exception, partial(answer_error, more={}, shape=rembg_error_body))

    @routes.post(REMBG_ROUTE.rule)
    def rembg_remove() -> Response:
        response = forwarder.send_on(bgrem, REMBG_ROUTE.path, REMBG_ROUTE.promise)
        if response.status_code >= 300:
            with closing(response):
                told = UpstreamAnswer(response.status_code, str(response.content_type), body=response.get_data())
                raise_error_of(told)
        return response

    return routes
