"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask import Response
from pydantic import Field
from werkzeug.exceptions import HTTPException

from enlight.servicekit.errors import (
    Conflict,
    CorruptModel,
    InternalError,
    InvalidField,
    JobCancelled,
    QuotaExceeded,
    ServiceError,
    UpstreamTimeout,
    WeightsUnavailable,
)
from enlight.servicekit.http_errors import MISSING_FIELD, UNKNOWN_FIELD, answer_error
from enlight.servicekit.schemas import Answer

SHOULD_RETRY = "X-Should-Retry"
"""OpenAI's clients try again after 409, 429 and 5xx, unless this header says otherwise."""

_TYPES = {401: "authentication_error", 403: "permission_error"}
_CODES = {"unauthorized": "invalid_api_key", "quota_exceeded": "rate_limit_exceeded"}
"""Where OpenAI's clients know a name for what the suite calls otherwise."""
_NO_USE = (Conflict, JobCancelled, InternalError, CorruptModel, WeightsUnavailable, UpstreamTimeout)
"""Those that a second try some seconds later meets again. After a timeout the first one may still be computed."""


class OpenAIError(Answer):
    """What went wrong."""

    message: str = Field(description="For people; may change.")
    type: str = Field(description="The kind of error, as OpenAI has them.", examples=["invalid_request_error"])
    param: str | None = Field(description="The parameter that it is about.")
    code: str | None = Field(description="Stable name of the error.", examples=["unknown_parameter"])


class OpenAIErrorBody(Answer):
    """The body of every error of these routes."""

    error: OpenAIError


def answer_openai_error(error: Exception, *, params: Mapping[str, str] | None = None) -> Response | HTTPException:
    """The response to an error of a route of OpenAI's: 400 where the suite says 422.

    Args:
        error: What a view, or a check before it, raised; for a blueprint's ``register_error_handler(Exception, ...)``.
        params: By the suite's name of a field: OpenAI's name of the parameter.
    """
    if isinstance(error, InvalidField) and params:
        error = _renamed(error, params)
    response = answer_error(error, {}, shape=openai_error_body)
    if isinstance(response, Response):
        if response.status_code == InvalidField.status:
            response.status_code = 400
        say_whether_to_retry(response, error)
    return response


def openai_error_body(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The body; the request's id is in its header, where OpenAI's clients look for it."""
    return {"error": openai_error_fields(error)}


def openai_error_fields(error: ServiceError) -> dict[str, Any]:
    """The four fields of an error."""
    param, problem = _first_problem(error)
    message, code = error.message, _CODES.get(error.code, error.code)
    if problem == UNKNOWN_FIELD:
        message, code = f"Unknown parameter: '{param}'.", "unknown_parameter"
    elif problem == MISSING_FIELD:
        message, code = f"Missing required parameter: '{param}'.", "missing_required_parameter"
    elif problem is not None:
        code = "invalid_value"
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    if isinstance(error, QuotaExceeded):
        kind = "rate_limit_error" if _is_rate(error) else "insufficient_quota"
        code = code if _is_rate(error) else "insufficient_quota"
    return OpenAIError(message=message, type=kind, param=param, code=code).model_dump()


def say_whether_to_retry(response: Response, error: Exception) -> None:
    """Tells OpenAI's clients not to try again what cannot succeed a moment later."""
    foreseen = isinstance(error, ServiceError) and not isinstance(error, _NO_USE)
    if not foreseen or (isinstance(error, QuotaExceeded) and not _is_rate(error)):
        response.headers[SHOULD_RETRY] = "false"


def _is_rate(error: QuotaExceeded) -> bool:
    """Whether time alone lifts the limit."""
    return "window_s" in error.details


def _first_problem(error: ServiceError) -> tuple[str | None, str | None]:
    """Which parameter an error is about, and what is wrong with it."""
    fields = error.details.get("fields")
    if not isinstance(fields, list) or not fields:
        return None, None
    return fields[0]["field"], fields[0]["message"]


def _renamed(error: InvalidField, params: Mapping[str, str]) -> InvalidField:
    problems = error.details["fields"]
    assert isinstance(problems, list)
    return InvalidField.of_fields([(params.get(each["field"], each["field"]), each["message"]) for each in problems])
