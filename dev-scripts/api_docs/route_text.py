"""A route as Markdown: what ``/openapi.json`` says of it, its own errors, and its examples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from inspect import cleandoc
from typing import Any

from api_docs.route import Route
from api_docs.schema_tables import Schema, answer_table, identity, inlined, request_table

from enlight.servicekit.errors import ServiceError

Document = Mapping[str, Any]
"""A service's ``/openapi.json``."""

TOLD_STATUSES = frozenset({"403", "404", "409", "502"})
"""Of errors that a route whose document has them must tell of; all others may be any route's."""


class RouteWriter:
    """Writes the routes of a page one after the other. A table is on the page once; later routes link to it."""

    def __init__(self) -> None:
        self._requests: dict[str, str] = {}
        self._answers: dict[str, str] = {}

    def text(self, route: Route, document: Document, *, link: str) -> str:
        """The route's part of the page, without its heading.

        Args:
            route: The route.
            document: The service's.
            link: To this part of the page.

        Raises:
            ValueError: the route says something else than its document.
        """
        method, path = route.name.split(" ")
        operation = inlined(document["paths"][path][method.lower()], document)
        _check_errors(route, operation["responses"])
        return (
            f"{_purpose(route, operation)}\n\n"
            + self._request(operation, link)
            + self._answer(route, operation, link)
            + _errors(route)
            + code("bash", route.curl)
            + code("python", route.python)
        )

    def _request(self, operation: Schema, link: str) -> str:
        body = operation.get("requestBody", {})
        kinds = body.get("content", {})
        text = ""
        if "application/json" in kinds:
            text += self._taken("Body", kinds["application/json"]["schema"], link)
        elif set(kinds) == {"multipart/form-data"}:
            text += self._taken("Form", kinds["multipart/form-data"]["schema"], link)
        elif kinds:
            text += f"Body: {_one_line(body.get('description') or ' or '.join(kinds))}\n\n"
        for place, name in (
            ("header", "Headers"),
            ("query", "Query, or the form's fields" if "multipart/form-data" in kinds else "Query"),
        ):
            fields = _parameters(operation, place)
            if fields["properties"]:
                text += self._taken(name, fields, link)
        return text

    def _answer(self, route: Route, operation: Schema, link: str) -> str:
        good = [item for item in operation["responses"].items() if item[0].startswith("2")]
        if not good:
            return ""  # a route that refuses all
        ((status, answer),) = good
        schema = answer.get("content", {}).get("application/json", {}).get("schema", {})
        told: list[str] = [status]
        if route.answer:
            _check_sample(route.name, json.loads(route.answer), schema)
            told.append(f"`{route.answer}`")
        elif not schema:
            phrase = HTTPStatus(int(status)).phrase  # where nothing better is said
            told.append(_one_line(answer["description"].replace(phrase, ", ".join(answer.get("content", ())))))
        text = f"Answer: {', '.join(filter(None, told))}\n\n"
        if "properties" in schema:
            text += self._given(schema, link)
        headers = {name: header for name, header in answer.get("headers", {}).items() if name != "X-Request-ID"}
        if headers:
            named = (f"`{name}`: {_one_line(header['description'])}" for name, header in headers.items())
            text += "Headers of the answer: " + " ".join(named) + "\n\n"
        return text

    def _taken(self, title: str, schema: Schema, link: str) -> str:
        table = request_table(schema)
        known = self._requests.setdefault(table, link)
        return f"{title}:\n\n{table}\n" if known == link else f"{title}: as of {known}.\n\n"

    def _given(self, schema: Schema, link: str) -> str:
        known = self._answers.get(identity(schema))
        if known:
            return f"Fields of the answer: as of {known}.\n\n"
        table = answer_table(schema, self._answers)
        self._answers[identity(schema)] = link
        return f"Fields of the answer:\n\n{table}\n"


def code(language: str, text: str) -> str:
    """A block of code, from a text that is indented as it suits the code around it."""
    end = "\n\n" if text.rstrip(" ").endswith("\n\n") else "\n"  # a block of Python ends with an empty line
    return f"```{language}\n{cleandoc(text)}{end}```\n"


def _purpose(route: Route, operation: Schema) -> str:
    return _one_line(f"**{operation['summary']}.** {operation.get('description', '')} {route.more}")


def _parameters(operation: Schema, place: str) -> Schema:
    """The parameters in header or query, as the schema of one object."""
    found = [known for known in operation.get("parameters", ()) if known["in"] == place]
    return {
        "properties": {
            known["name"]: {**known["schema"], "description": known.get("description", "")} for known in found
        },
        "required": [known["name"] for known in found if known["required"]],
    }


def _errors(route: Route) -> str:
    own = sorted(route.errors, key=lambda error: (error[0].status, error[0].code))
    told = ", ".join(f"{_named(kind)} ({when})" if when else _named(kind) for kind, when in own)
    text = f"[Errors](#errors): {told}.\n\n" if told else ""
    if route.refused:
        kind, why = route.refused
        text += f"The examples get {_named(kind)}: {why}.\n\n"
    return text


def _named(kind: type[ServiceError]) -> str:
    return f"{kind.status} `{kind.code}`"


def _check_errors(route: Route, responses: Mapping[str, Any]) -> None:
    own = {str(kind.status) for kind, _ in route.errors}
    unknown = sorted(own - set(responses))
    untold = sorted(TOLD_STATUSES & set(responses) - own)
    if unknown or untold:
        raise ValueError(f"{route.name}: /openapi.json has no errors {unknown}, and has {untold}, which are not told")


def _check_sample(name: str, sample: object, schema: Schema) -> None:
    for kind in schema.get("anyOf", [schema]):
        if isinstance(sample, dict) and "properties" in kind:
            for key, value in sample.items():
                if key not in kind["properties"]:
                    raise ValueError(f"{name}: /openapi.json knows no {key} in the answer")
                _check_sample(f"{name}, {key}", value, kind["properties"][key])
        elif isinstance(sample, list) and "items" in kind:
            for item in sample:
                _check_sample(name, item, kind["items"])


def _one_line(text: str) -> str:
    return " ".join(text.split())
