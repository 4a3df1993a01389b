"""Errors as rembg's server gives them."""

from __future__ import annotations

from enlight.main_api.adapters.fastapi_errors import PROBLEMS, detail_of
from enlight.servicekit.errors import MethodNotAllowed, ServiceError
from enlight.servicekit.http_docs import Document

REMBG_ERROR: Document = {
    "type": "object",
    "properties": {"detail": {"anyOf": [{"type": "string"}, PROBLEMS]}},
    "required": ["detail"],
    "additionalProperties": False,
}
"""The body's schema."""

_NO_ADDRESS = "Send the picture itself, with POST, as the form's `file`: `url` is not taken, nothing is fetched here."


def rembg_error_body(error: ServiceError, request_id: str) -> dict[str, object]:
    """The body. Other methods than POST are those that take an address there."""
    return {"detail": _NO_ADDRESS if isinstance(error, MethodNotAllowed) else detail_of(error)}
