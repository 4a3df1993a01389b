"""What ``/openapi.json`` says of all of the gateway's routes: keys, limits, and the picture routes of the services."""

from __future__ import annotations

from enlight.dreambooth_api.told_headers import TOLD_HEADERS, WHERE_IT_IS
from enlight.main_api.adapters.a1111.document import describe_a1111
from enlight.main_api.adapters.openai.document import describe_openai
from enlight.main_api.adapters.rembg.errors import REMBG_ERROR
from enlight.main_api.document_links import add_links
from enlight.main_api.keys.authentication import LINKS_PREFIX, OPEN_RULES
from enlight.main_api.upstreams.picture_document import add_picture_routes, tell_of_kept_answers
from enlight.main_api.upstreams.routes_images import REMBG_ROUTE
from enlight.servicekit.http_docs import Document, add_answer_headers, error_reference, operations_of, shape_errors

_KEY = "An API key, `enl_<id>_<secret>`, made by `POST /v1/keys` or on the command line."
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "enl_<id>_<secret>", "description": _KEY},
    "basic": {"type": "http", "scheme": "basic", "description": "Any user; the password is an API key."},
    "api_key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": _KEY},
}
_OF_ANY_ROUTE = ("429", "503")
"""The tenant's limits, and the database: both are asked before a route is."""


def finish_document(document: Document, *, keys_asked: bool) -> None:
    """Adds to the document, in place; ``keys_asked``: whether the routes ask for a key."""
    add_picture_routes(document)
    add_answer_headers(document, {**TOLD_HEADERS, "import_model": WHERE_IT_IS})
    pictures = document["paths"]["/v1/generations"]["post"]["responses"]["200"]
    tell_of_kept_answers(pictures, only="Only where the request has a `seed`.")
    add_links(document)
    describe_openai(document)
    describe_a1111(document)
    shape_errors(document, REMBG_ROUTE.rule, "RembgError", REMBG_ERROR)
    if keys_asked:
        document["components"]["securitySchemes"] = _SCHEMES
        document["security"] = [{name: []} for name in _SCHEMES]
    for path, _, operation in operations_of(document):
        if path in OPEN_RULES or path.startswith(LINKS_PREFIX):
            if keys_asked:
                operation["security"] = []
            continue
        statuses = [*_OF_ANY_ROUTE, *(["401"] if keys_asked else [])]
        operation["responses"] |= {status: error_reference(status) for status in statuses}
