"""Errors as A1111's server gives them."""

from __future__ import annotations

from typing import Any

from enlight.main_api.adapters.fastapi_errors import PROBLEMS, detail_of
from enlight.servicekit.errors import InvalidField, ServiceError
from enlight.servicekit.http_docs import Document

A1111_ERROR: Document = {
    "type": "object",
    "properties": {
        "detail": {"anyOf": [{"type": "string"}, PROBLEMS]},
        "error": {"type": "string", "description": "Name of the kind of error; not where fields are wrong."},
        "body": {"const": ""},
        "errors": {"type": "string", "description": "The message once more."},
    },
    "required": ["detail"],
    "additionalProperties": False,
}
"""The body's schema."""


def a1111_error_body(error: ServiceError, request_id: str) -> dict[str, Any]:
    """The body: fields that are wrong as FastAPI tells them, everything else as A1111's own handler does."""
    if isinstance(error, InvalidField):
        return {"detail": detail_of(error)}
    return {"error": type(error).__name__, "detail": error.message, "body": "", "errors": error.message}
