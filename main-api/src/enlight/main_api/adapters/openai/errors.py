"""Errors as OpenAI's clients read them: ``{"error": {"message", "type", "param", "code"}}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from flask import Response
from pydantic import Field
from werkzeug.exceptions import HTTPException

from enlight.servicekit.errors import (
    Conflict,
    CorruptModel,
    InternalError,
    InvalidField,
    JobCancelled,
    NotFound,
    QuotaExceeded,
    ServiceError,
    UpstreamTimeout,
    WeightsUnavailable,
    error_body,
)
from enlight.servicekit.http_errors import MISSING_FIELD, UNKNOWN_FIELD, answer_error
from enlight.servicekit.schemas import Answer, ErrorDetail

SHOULD_RETRY = "X-Should-Retry"
"""OpenAI's clients try again after 409, 429 and 5xx, unless this header says otherwise."""

_TYPES = {401: "authentication_error", 403: "permission_error"}
_CODES = {"unauthorized": "invalid_api_key", "quota_exceeded": "rate_limit_exceeded"}
"""Where OpenAI's clients know a name for what the suite calls otherwise."""
_NO_USE = (Conflict, JobCancelled, InternalError, CorruptModel, WeightsUnavailable, UpstreamTimeout)
"""Those that a second try some seconds later meets again. After a timeout the first one may still be computed."""


class OpenAIErrorFields(Answer):
    """What went wrong."""

    message: str = Field(description="For people; may change.")
    type: str = Field(description="The kind of error, as OpenAI has them.", examples=["invalid_request_error"])
    param: str | None = Field(description="The parameter that it is about.")
    code: str | None = Field(description="Stable name of the error.", examples=["unknown_parameter"])


class OpenAIErrorBody(Answer):
    """The body of every error of these routes."""

    error: OpenAIErrorFields


class ModelsErrorDetail(OpenAIErrorFields, ErrorDetail):
    """What programs read of an error, those of the suite and OpenAI's clients; its ``code`` is the suite's."""

    code: str


class ModelsErrorBody(Answer):
    """The body of every error of ``/v1/models``, which OpenAI's clients and those of the suite ask alike."""

    message: str
    error: ModelsErrorDetail


def answer_openai_error(error: Exception, *, params: Mapping[str, str] | None = None) -> Response | HTTPException:
    """The response to an error of a route of OpenAI's: 400 where the suite says 422.

    Args:
        error: What a view, or a check before it, raised; for a blueprint's ``register_error_handler(Exception, ...)``.
        params: By the suite's name of a field: OpenAI's name of the parameter.
    """
    if isinstance(error, ServiceError) and params:
        error = renamed(error, params)
    response = answer_error(error, {}, shape=openai_error_body)
    if isinstance(response, Response):
        if response.status_code == InvalidField.status:
            response.status_code = 400
        say_whether_to_retry(response, error)
    return response


def answer_models_error(error: Exception) -> Response | HTTPException:
    """The response to an error of ``/v1/models``: the suite's, with what OpenAI's clients look for besides."""
    response = answer_error(error, {}, shape=_models_error_body)
    if isinstance(response, Response):
        say_whether_to_retry(response, error)
    return response


def no_such_model_body(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The body of an error below ``/v1/models`` where no route is, as of a base model's name, which has a slash."""
    if isinstance(error, NotFound):
        error = NotFound(
            "No trained model's name has a slash. `GET /v1/base-models` lists base models, whose names are taken as "
            "`model`, too."
        )
    return _models_error_body(error, request_id)


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
    return OpenAIErrorFields(message=message, type=kind, param=param, code=code).model_dump()


def say_whether_to_retry(response: Response, error: Exception) -> None:
    """Tells OpenAI's clients not to try again what cannot succeed a moment later."""
    foreseen = isinstance(error, ServiceError) and not isinstance(error, _NO_USE)
    if not foreseen or (isinstance(error, QuotaExceeded) and not _is_rate(error)):
        response.headers[SHOULD_RETRY] = "false"


def _models_error_body(error: ServiceError, request_id: str) -> dict[str, Any]:
    body = error_body(error, request_id)
    return {**body, "error": {**openai_error_fields(error), **cast(dict[str, Any], body["error"])}}


def _is_rate(error: QuotaExceeded) -> bool:
    """Whether time alone lifts the limit."""
    return "window_s" in error.details


def _first_problem(error: ServiceError) -> tuple[str | None, str | None]:
    """Which parameter an error is about, and what is wrong with it."""
    fields = error.details.get("fields")
    if not isinstance(fields, list) or not fields:
        picture = error.details.get("field")  # one that cannot be read
        return picture if isinstance(picture, str) else None, None
    return fields[0]["field"], fields[0]["message"]


def renamed(error: ServiceError, params: Mapping[str, str]) -> ServiceError:
    """The same error about OpenAI's parameters; ``params`` has them by the suite's names of fields."""
    problems, picture = error.details.get("fields"), error.details.get("field")
    if isinstance(problems, list):
        return InvalidField.of_fields(
            [(params.get(each["field"], each["field"]), each["message"]) for each in problems]
        )
    if isinstance(picture, str) and picture in params:  # one that cannot be read; the message begins with its name
        message = params[picture] + error.message.removeprefix(picture)
        return type(error)(message, details={**error.details, "field": params[picture]})
    return error
