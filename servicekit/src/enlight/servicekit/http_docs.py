"""``/openapi.json``, and ``/docs``: one page that shows it, made of three files that the service serves itself."""

from __future__ import annotations

import functools
import threading
from importlib.resources import files
from typing import Any

from flask import Response
from flask_openapi.openapi import OpenAPI

_FILES = {
    "/docs": ("page.html", "text/html; charset=utf-8"),
    "/docs/page.css": ("page.css", "text/css; charset=utf-8"),
    "/docs/page.js": ("page.js", "text/javascript; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def add_documentation(app: OpenAPI) -> None:
    """Adds the two routes. The document is made when it is first asked for, with the routes that are there then."""
    lock = threading.Lock()
    made: list[str] = []

    def openapi_document() -> Response:
        with lock:  # flask-openapi builds its document in place: nobody may see it half made
            if not made:
                _tidy(app.api_doc)
                made.append(app.json.dumps(app.api_doc))
        return Response(made[0], content_type="application/json")

    app.add_url_rule("/openapi.json", "openapi_document", openapi_document)
    for rule, (name, content_type) in _FILES.items():
        app.add_url_rule(rule, f"documentation_{name}", functools.partial(_serve, name, content_type))


def _tidy(document: dict[str, Any]) -> None:
    """Takes out errors that an operation cannot answer: flask-openapi gives each operation all of them."""
    for operations in document["paths"].values():
        for operation in operations.values():
            impossible: set[str] = set()
            if "requestBody" not in operation:
                impossible |= {"413", "415"}
                if "parameters" not in operation:
                    impossible |= {"400", "422"}
            responses = operation["responses"]
            operation["responses"] = {
                status: responses[status] for status in sorted(responses) if status not in impossible
            }


def _serve(name: str, content_type: str) -> Response:
    body = files("enlight.servicekit").joinpath("documentation", name).read_bytes()
    return Response(body, content_type=content_type, headers={"Content-Security-Policy": _POLICY})
