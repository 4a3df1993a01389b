"""What ``/openapi.json`` says of the errors of OpenAI's routes."""

from __future__ import annotations

from pydantic import BaseModel

from enlight.main_api.adapters.openai.errors import ModelsErrorBody, OpenAIErrorBody
from enlight.servicekit.http_docs import Document, shape_errors

OPENAI_PREFIXES = ("/v1/images/", "/v1/files", "/v1/fine_tuning/")
MODELS_PREFIX = "/v1/models"
_SCHEMAS = "#/components/schemas/"


def add_openai_errors(document: Document) -> None:
    """Adds to the document, in place, before it is tidied up."""
    body = _add_schema(document, OpenAIErrorBody)
    for prefix in OPENAI_PREFIXES:
        shape_errors(document, prefix, "OpenAIError", body, field_status="400")
    shape_errors(document, MODELS_PREFIX, "ModelsError", _add_schema(document, ModelsErrorBody))


def _add_schema(document: Document, model: type[BaseModel]) -> Document:
    described = model.model_json_schema(ref_template=f"{_SCHEMAS}{{model}}")
    document["components"]["schemas"] |= described.pop("$defs") | {model.__name__: described}
    return {"$ref": f"{_SCHEMAS}{model.__name__}"}
