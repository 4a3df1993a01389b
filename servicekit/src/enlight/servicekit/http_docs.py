"""``/openapi.json``, and ``/docs``: one page that shows it, made of three files that the service serves itself."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from flask import Response
from flask_openapi.models.tag import Tag
from flask_openapi.openapi import OpenAPI
from flask_openapi.types import ResponseDict

from enlight.servicekit.errors import error_classes

Document = dict[str, Any]
"""An OpenAPI document, or a part of one."""

_FILES = {
    "/docs": ("page.html", "text/html", "This description, as a page"),
    "/docs/page.css": ("page.css", "text/css", "How the page looks"),
    "/docs/page.js": ("page.js", "text/javascript", "What fills the page"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ERROR_BODY = {"$ref": "#/components/schemas/ErrorBody"}
_BAD_FIELD = "422"
_OF_A_BODY = ("400", "413", "415", _BAD_FIELD)
"""What can be wrong with a request that has a body."""
_URL_TOO_LONG: Document = {
    "description": "The URL is longer than the server reads, about 4,000 bytes. This one answer has no JSON, and comes "
    "before a route is looked for.",
    "content": {"text/html": {"schema": {"type": "string"}}},
}
_SHAPE = "x-error-shape"
"""Where an operation says that its errors have another body than the suite's."""
_REQUEST_ID, _RETRY_AFTER, _CHALLENGE = "X-Request-ID", "Retry-After", "WWW-Authenticate"
_HEADERS: Document = {
    _REQUEST_ID: {
        "description": "The request's own, where it is 1 to 64 letters, digits, `.`, `_` or `-`; else a new one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    _RETRY_AFTER: {
        "description": "Seconds after which the request is worth sending again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 0},
    },
    _CHALLENGE: {"description": "How to say who is asking.", "required": True, "schema": {"type": "string"}},
}


@dataclass(frozen=True)
class _Shape:
    """Errors with one body."""

    name: str
    """Of the errors among the components, ahead of the status."""
    body: Document
    field_status: str

    def reference(self, status: int | str) -> Document:
        """To the error of this status."""
        return {"$ref": f"#/components/responses/{self.name}{status}"}

    def statuses(self, errors: set[str]) -> set[str]:
        """What the suite's statuses are here."""
        return {self.field_status if status == _BAD_FIELD else status for status in errors}


_SUITES = _Shape("Error", _ERROR_BODY, _BAD_FIELD)


def add_documentation(
    app: OpenAPI,
    tags: list[Tag | dict[str, Any]],
    *,
    error_fields: Mapping[str, object],
    finish: Callable[[Document], None],
) -> None:
    """Adds the routes. The document is made when it is first asked for, with the routes that are there then.

    Args:
        app: The application.
        tags: Of these routes.
        error_fields: What every error body has besides the common fields.
        finish: Adds to the document, in place, what the service has to say of all of its routes.
    """
    lock = threading.Lock()
    made: list[str] = []

    @app.get("/openapi.json", tags=tags, summary="This description, for programs", responses=_file("application/json"))
    def openapi_document() -> Response:
        with lock:  # flask-openapi builds its document in place: nobody may see it half made
            if not made:
                document = app.api_doc
                _name_operations(app, document)
                _add_error_fields(document["components"]["schemas"]["ErrorBody"], error_fields)
                finish(document)
                _tidy(document)
                made.append(app.json.dumps(document))
        return Response(made[0], content_type="application/json")

    for rule, (name, media_type, summary) in _FILES.items():
        _add_file(app, rule, name, media_type, tags=tags, summary=summary)


def operations_of(document: Document) -> Iterator[tuple[str, str, Document]]:
    """Path, method and operation of all that a document describes."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


def error_reference(status: int | str) -> Document:
    """What an operation says of its answer of this status, when that is the one error body."""
    return _SUITES.reference(status)


def shape_errors(
    document: Document, prefix: str, name: str, schema: Document, *, field_status: str = _BAD_FIELD
) -> None:
    """Says of all operations below a path that their errors have a body of their own, in place.

    Args:
        document: Before it is tidied up.
        prefix: Of the paths.
        name: Of the errors among the components, ahead of the status: one for each body.
        schema: Of the body.
        field_status: What a bad field is answered with.
    """
    for path, _, operation in operations_of(document):
        if path.startswith(prefix):
            operation[_SHAPE] = name
    document["components"].setdefault(_SHAPE, {})[name] = _Shape(name, schema, field_status)


def answer_headers(headers: Mapping[str, str]) -> Document:
    """Headers that an answer always has; what each one tells, by name."""
    return {
        name: {"description": text, "required": True, "schema": {"type": "string"}} for name, text in headers.items()
    }


def add_answer_headers(document: Document, headers: Mapping[str, Mapping[str, str]]) -> None:
    """Adds to good answers in JSON the headers that they always have, in place.

    Args:
        document: Before it is tidied up.
        headers: What each header tells by its name, by the operation's id.
    """
    for _, _, operation in operations_of(document):
        told = headers.get(operation["operationId"])
        if told:
            good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
            good["headers"] = answer_headers(told)


def without_null(schema: Mapping[str, Any]) -> Document:
    """The schema of a field as a query, a header or a form has it: what may be null in JSON is left out there."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    return rest | (choices[0] if len(choices) == 1 else {"anyOf": choices} if choices else {})


def _name_operations(app: OpenAPI, document: Document) -> None:
    """Gives each operation its view's name: what a generated client calls the method."""
    names = {
        (re.sub("<([^>]+)>", r"{\1}", rule.rule), method.lower()): rule.endpoint.rpartition(".")[2]
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
    }
    for path, method, operation in operations_of(document):
        operation["operationId"] = names[path, method]


def _add_error_fields(schema: Document, error_fields: Mapping[str, object]) -> None:
    schema["properties"] |= {name: {"const": value} for name, value in error_fields.items()}
    schema["required"] += list(error_fields)


def _tidy(document: Document) -> None:
    """Says what flask-openapi cannot know, and takes out what it says in vain."""
    errors: dict[str, tuple[str, _Shape]] = {}
    shapes = document["components"].pop(_SHAPE, {})
    for _, _, operation in operations_of(document):
        operation["description"] = operation.get("description", "").replace("<br/>", "\n")
        operation.pop("deprecated", None)
        for parameter in operation.get("parameters", ()):
            parameter["schema"] = without_null(parameter["schema"])
            parameter["schema"].pop("description", None)  # the parameter has it
        shape = shapes.get(operation.pop(_SHAPE, None), _SUITES)
        _set_errors(operation, shape)
        for status, response in operation["responses"].items():
            if "$ref" in response:
                errors[f"{shape.name}{status}"] = status, shape
            else:
                response["headers"] = response.get("headers", {}) | _header_references(_REQUEST_ID)
    components = document["components"]
    components["headers"] = _HEADERS
    components["responses"] = {name: _error_response(*errors[name]) for name in sorted(errors)}
    _write_whole_numbers_whole(document)


def _set_errors(operation: Document, shape: _Shape) -> None:
    """The errors that the route names, and those that any request of its kind may get; each as a reference."""
    declared = operation["responses"]
    errors = {status for status, response in declared.items() if _is_error(response)}
    if "requestBody" in operation:
        errors.update(_OF_A_BODY)
    elif "parameters" in operation:
        errors.add(_BAD_FIELD)
    if any(parameter["in"] == "query" for parameter in operation.get("parameters", ())):
        errors.add("414")
    answers = {status: response for status, response in declared.items() if status not in errors}
    # flask-openapi gives every operation a 422 of its own making.
    answers.pop(_BAD_FIELD, None)
    references = {status: shape.reference(status) for status in shape.statuses(errors)}
    operation["responses"] = dict(sorted((answers | references).items()))


def _is_error(response: Document) -> bool:
    content = response.get("content", {}).get("application/json", {})
    return content.get("schema") == _ERROR_BODY or "$ref" in response


def _error_response(status: str, shape: _Shape) -> Document:
    if status == "414":
        return _URL_TOO_LONG
    known = [error for error in error_classes() if shape.statuses({str(error.status)}) == {status}]
    headers = [_REQUEST_ID]
    headers += [_RETRY_AFTER] if any(error.retryable for error in known) else []
    headers += [_CHALLENGE] if status == "401" else []
    return {
        "description": "\n".join(f"`{error.code}`: {(error.__doc__ or '').splitlines()[0]}" for error in known),
        "headers": _header_references(*headers),
        "content": {"application/json": {"schema": shape.body}},
    }


def _header_references(*names: str) -> Document:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _write_whole_numbers_whole(part: Any) -> None:  # noqa: ANN401 -- any part of a JSON document
    """flask-openapi writes ``"minimum": 8.0`` of an integer."""
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in items:
        if isinstance(value, float) and value.is_integer():
            part[key] = int(value)
        else:
            _write_whole_numbers_whole(value)


def _add_file(
    app: OpenAPI, rule: str, name: str, media_type: str, *, tags: list[Tag | dict[str, Any]], summary: str
) -> None:
    def serve() -> Response:
        body = files("enlight.servicekit").joinpath("documentation", name).read_bytes()
        return Response(body, content_type=f"{media_type}; charset=utf-8", headers={"Content-Security-Policy": _POLICY})

    serve.__name__ = name.replace(".", "_")
    app.get(rule, tags=tags, summary=summary, responses=_file(media_type))(serve)


def _file(media_type: str) -> ResponseDict:
    kind = "object" if media_type == "application/json" else "string"
    return {"200": {"description": "The file.", "content": {media_type: {"schema": {"type": kind}}}}}
