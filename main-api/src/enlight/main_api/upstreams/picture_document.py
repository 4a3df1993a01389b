"""What ``/openapi.json`` says of the picture routes: what the services behind say of theirs.

The gateway does not have these services' code. `make docs` takes the parts that matter out of their documents, and
writes them into the file beside this module.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

from enlight.main_api.cache.kept_answers import OF_ONE_RUN
from enlight.main_api.upstreams.routes_images import PICTURE_ROUTES, REMBG_ROUTE
from enlight.servicekit.http_docs import Document

PARTS_FILE = "picture_document.json"
"""In this folder."""

_SCHEMAS = "#/components/schemas/"
_ERROR_BODY = f"{_SCHEMAS}ErrorBody"
_CACHE_HEADER = {
    "description": "Whether the answer was computed for this request, or kept from an equal one.",
    "required": True,
    "schema": {"enum": ["hit", "miss"], "type": "string"},
}


def parts_of(documents: Mapping[str, Document]) -> Document:
    """The parts of the services' ``/openapi.json``, by service, that describe the picture routes.

    A schema's name gets the service's before it: two services have an ``UpsamplerBody``.
    """
    operations: Document = {}
    schemas: Document = {}
    error_fields: Document = {}
    for route in (*PICTURE_ROUTES, REMBG_ROUTE):
        document = documents[route.service]
        operation = dict(document["paths"][route.path]["post"])
        del operation["operationId"], operation["tags"]
        operations[route.rule] = _renamed(operation, route.service)
        known = document["components"]["schemas"]
        for name in sorted(_reached(operation, known)):
            schemas[f"{route.service}.{name}"] = _renamed(known[name], route.service)
        error_fields |= known["ErrorBody"]["properties"]
    return {"operations": operations, "schemas": schemas, "error_fields": error_fields}


def add_picture_routes(document: Document) -> None:
    """Puts the parts in their places in the gateway's document."""
    parts = json.loads(files(__package__).joinpath(PARTS_FILE).read_bytes())
    for rule, operation in parts["operations"].items():
        ours = document["paths"][rule]["post"]
        responses = ours["responses"] | operation["responses"]
        ours |= operation
        ours["responses"] = responses
        tell_of_kept_answers(responses["200"])
    document["components"]["schemas"] |= parts["schemas"]
    fields = document["components"]["schemas"]["ErrorBody"]["properties"]
    for name, schema in parts["error_fields"].items():
        fields.setdefault(name, schema | {"description": "Only in the errors of some services behind."})


def tell_of_kept_answers(answer: Document, *, only: str = "") -> None:
    """Adds to a good answer that it may be a kept one, in place; ``only``: for which requests, if not for all."""
    headers = answer.setdefault("headers", {})
    for name in headers:
        if name.lower() in OF_ONE_RUN:
            headers[name] |= {"required": False}  # a kept answer has none
    headers["X-Cache"] = _CACHE_HEADER | {"required": not only}
    if only:
        headers["X-Cache"]["description"] = f"{_CACHE_HEADER['description']} {only}"


def _reached(part: object, known: Document) -> set[str]:
    """Names of the schemas that ``part`` needs."""
    found: set[str] = set()
    waiting = list(_references(part))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(known[name])
    return found


def _references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        reference = part.get("$ref", "")
        if reference.startswith(_SCHEMAS):
            yield reference.removeprefix(_SCHEMAS)
    for item in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _references(item)


def _renamed(part: Any, service: str) -> Any:  # noqa: ANN401 -- any part of a JSON document
    if isinstance(part, dict):
        return {key: _renamed(value, service) for key, value in part.items()}
    if isinstance(part, list):
        return [_renamed(item, service) for item in part]
    if isinstance(part, str) and part.startswith(_SCHEMAS):
        return f"{_SCHEMAS}{service}.{part.removeprefix(_SCHEMAS)}"
    return part
