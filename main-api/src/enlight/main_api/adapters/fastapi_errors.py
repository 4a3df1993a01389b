"""Errors as FastAPI words them, which the servers of A1111 and rembg are made with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from enlight.servicekit.errors import InvalidField, ServiceError
from enlight.servicekit.http_docs import Document

PROBLEMS: Document = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "loc": {"type": "array", "items": {"type": "string"}, "description": "`body`, then the field."},
            "msg": {"type": "string"},
            "type": {"const": "value_error"},
        },
        "required": ["loc", "msg", "type"],
        "additionalProperties": False,
    },
}
"""How a schema says what is wrong with which field."""


def detail_of(error: ServiceError) -> str | list[dict[str, Any]]:
    """The message; of fields that are wrong, each with its message."""
    fields = error.details.get("fields")
    if not isinstance(error, InvalidField) or not isinstance(fields, Iterable):
        return error.message
    return [_problem(each) for each in fields]


def _problem(field: Mapping[str, object]) -> dict[str, Any]:
    return {"loc": ["body", str(field["field"])], "msg": str(field["message"]), "type": "value_error"}
