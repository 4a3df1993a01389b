"""What ``/openapi.json`` says of OpenAI's routes: errors in their shape, pictures that need not be computed again."""

from __future__ import annotations

from pydantic import BaseModel

from enlight.main_api.adapters.openai.errors import ModelsErrorBody, OpenAIErrorBody
from enlight.main_api.upstreams.picture_document import tell_of_kept_answers
from enlight.servicekit.http_docs import Document, shape_errors

OPENAI_PREFIXES = ("/v1/images/", "/v1/files", "/v1/fine_tuning/")
MODELS_PREFIX = "/v1/models"
_KEPT = {
    "/v1/images/generations": "Only where the request has a `seed`.",
    "/v1/images/edits": "Only where the request has a `seed`, or asks for a cut-out.",
}
"""Routes whose answers may be kept ones, and of which requests."""
_SCHEMAS = "#/components/schemas/"


def describe_openai(document: Document) -> None:
    """Adds to the document, in place, before it is tidied up."""
    for path, when in _KEPT.items():
        tell_of_kept_answers(document["paths"][path]["post"]["responses"]["200"], only=when)
    body = _add_schema(document, OpenAIErrorBody)
    for prefix in OPENAI_PREFIXES:
        shape_errors(document, prefix, "OpenAIError", body, field_status="400")
    shape_errors(document, MODELS_PREFIX, "ModelsError", _add_schema(document, ModelsErrorBody))


def _add_schema(document: Document, model: type[BaseModel]) -> Document:
    described = model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    document["components"]["schemas"] |= described.pop("$defs") | {model.__name__: described}
    return {"$ref": f"{_SCHEMAS}{model.__name__}"}
