"""How a route that takes a picture's bytes, or answers with them, is described in ``/openapi.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flask_openapi.types import ResponseDict
from pydantic import BaseModel

from enlight.servicekit.http_docs import answer_headers, without_null

_BYTES = {"type": "string", "format": "binary"}
_REFERENCE = "#/components/schemas/{model}"


def picture_body(options: type[BaseModel], *, form_fields: tuple[str, ...]) -> dict[str, Any]:
    """The body of a route that reads it by ``uploaded_file``, and ``options`` from the query or the form.

    The route takes ``options`` as its query, too, so that the models within it are described.
    """
    described = options.model_json_schema(ref_template=_REFERENCE)
    fields = {name: without_null(schema) for name, schema in described["properties"].items()}
    form = {
        "type": "object",
        "properties": {**dict.fromkeys(form_fields, _BYTES), **fields},
        "additionalProperties": False,
        **_any_of_them(form_fields),
    }
    return {
        "required": True,
        "description": "The bytes of a PNG, JPEG, WebP or HEIC file, sent as `image/*` or `application/octet-stream`, "
        f"or a form with the file in the field {' or '.join(f'`{name}`' for name in form_fields)}. Options are in the "
        "query or in the form's other fields, each in one place.",
        "content": {"application/octet-stream": {"schema": _BYTES}, "multipart/form-data": {"schema": form}},
    }


def picture_answer(headers: Mapping[str, str]) -> ResponseDict:
    """The good answer of a route that gives a picture; ``headers``: what each one tells, by name."""
    return {
        "200": {
            "description": "The picture's file.",
            "content": {f"image/{kind}": {"schema": _BYTES} for kind in ("png", "jpeg", "webp")},
            "headers": answer_headers(headers),
        }
    }


def _any_of_them(form_fields: tuple[str, ...]) -> dict[str, Any]:
    needed = [{"required": [name]} for name in form_fields]
    return needed[0] if len(needed) == 1 else {"anyOf": needed}
