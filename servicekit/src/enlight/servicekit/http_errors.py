"""Every way in which a request fails, as the one error body."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus

from flask import Response, jsonify, request
from pydantic import ValidationError
from werkzeug.exceptions import HTTPException

from enlight.servicekit.errors import (
    UNFORESEEN,
    ClientError,
    Conflict,
    Forbidden,
    InternalError,
    InvalidField,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    QuotaExceeded,
    ServiceError,
    Unauthorized,
    UnsupportedMediaType,
    error_body,
)
from enlight.servicekit.http_bodies import body_too_large, this_request
from enlight.servicekit.logs import current_request_id

logger = logging.getLogger(__name__)

MAX_FIELDS = 20
"""Problems named in one answer."""
MISSING_FIELD = "is required"
UNKNOWN_FIELD = "is not a known field"

_CLASSES: dict[int, type[ClientError]] = {
    400: InvalidRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    415: UnsupportedMediaType,
    422: InvalidField,
    429: QuotaExceeded,
}


def answer_error(
    error: Exception,
    more: Mapping[str, object],
    *,
    shape: Callable[[ServiceError, str], Mapping[str, object]] = error_body,
) -> Response | HTTPException:
    """The response to an error.

    Args:
        error: What a view, or a check before it, raised.
        more: What a service's contract puts into the body besides.
        shape: The body, of an error and its request's id; another than the suite's where another API laid it down.
    """
    if isinstance(error, HTTPException) and (error.response is not None or (error.code or 500) < 400):
        return error  # a ready-made answer: a redirect, an abort(response)
    if isinstance(error, ServiceError):
        known = error
    elif isinstance(error, HTTPException):
        known = _from_werkzeug(error)
    else:
        logger.error("Unforeseen error", exc_info=error)
        known = InternalError(UNFORESEEN)
    this_request().told_error = known
    response = jsonify({**more, **shape(known, current_request_id())})
    response.status_code = known.status
    if isinstance(error, HTTPException):
        response.headers.extend((name, value) for name, value in error.get_headers() if name.lower() != "content-type")
    if known.retry_after_s is not None and "Retry-After" not in response.headers:
        response.headers["Retry-After"] = str(known.retry_after_s)
    return response


def invalid_field(error: ValidationError) -> InvalidField:
    """A pydantic error in the contract's words; each problem by its field, the first in the message."""
    problems = [
        (_field_name(problem["loc"]), _problem_text(problem["type"], problem["msg"]))
        for problem in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FIELDS]
    ]
    return InvalidField.of_fields(problems)


def _field_name(location: tuple[int | str, ...]) -> str:
    """``("IMAGE_LIST", 3)`` is ``IMAGE_LIST[3]``."""
    name = ""
    for part in location:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part[:100]
    return name or "body"


def _problem_text(kind: str, message: str) -> str:
    if kind == "missing":
        return MISSING_FIELD
    if kind == "extra_forbidden":
        return UNKNOWN_FIELD
    text = message.removeprefix("Value error, ").replace(" after validation", "")
    return re.sub(r"^(\w+ )?\w+ should ", "must ", text, count=1)


def _from_werkzeug(error: HTTPException) -> ServiceError:
    status = error.code or 500
    if status == 413:
        return body_too_large(request.max_content_length or 0)
    if status == 404:
        return NotFound(f"There is no {request.path[:200]} here. See /docs for the routes.")
    if status == 405:
        return MethodNotAllowed(f"{request.path[:200]} does not take {request.method[:20]}.")
    if status in _CLASSES:
        return _CLASSES[status](error.description or HTTPStatus(status).phrase)
    known: ServiceError
    if status < 500:
        known = ClientError(error.description or "The request cannot be served.")
        known.code = re.sub(r"\W+", "_", error.name.lower())
    else:
        logger.error("Unforeseen error", exc_info=error)
        known = InternalError(UNFORESEEN)
    known.status = status
    return known
