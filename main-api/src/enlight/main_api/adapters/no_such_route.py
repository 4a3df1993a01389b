"""Requests for no route, or by no method of one: below an adapter's path the error is in that adapter's words."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, NotFound

from enlight.servicekit import errors
from enlight.servicekit.http_errors import answer_error

Shape = Callable[[errors.ServiceError, str], Mapping[str, object]]


def answer_no_such_route(app: Flask, shapes: Mapping[str, Shape]) -> None:
    """Has the application answer so.

    Args:
        app: Whose routes there are.
        shapes: An error's body, of the error and the request's id, by the beginning of paths.
    """

    def answer(error: HTTPException) -> Response | HTTPException:
        for prefix, shape in shapes.items():
            if request.path.startswith(prefix):
                known = _not_found(app, prefix) if isinstance(error, NotFound) else error
                return answer_error(known, {}, shape=shape)
        return answer_error(error, {})

    for status in (404, 405):
        app.register_error_handler(status, answer)


def _not_found(app: Flask, prefix: str) -> errors.NotFound:
    there = sorted({rule.rule for rule in app.url_map.iter_rules() if rule.rule.startswith(prefix)})
    return errors.NotFound(f"There is no {request.path[:200]} here. There are {', '.join(there)}.")
