"""Requests made from the gateway's OpenAPI document: a well-formed one of every operation, whichever there are."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[3] / "docs" / "openapi" / "main-api.json"
"""The document, as it is committed."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")

Schema = Mapping[str, Any]


@dataclass(frozen=True)
class Described:
    """One operation of a document."""

    document: Mapping[str, Any]
    path: str
    """With ``{names}``."""
    method: str
    operation: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def needs_key(self) -> bool:
        return bool(self.operation.get("security", self.document["security"]))

    @property
    def has_body(self) -> bool:
        return "requestBody" in self.operation

    @property
    def statuses(self) -> set[int]:
        return {int(status) for status in self.operation["responses"]}

    @property
    def errors(self) -> str:
        """How the document calls the errors of this operation: those with one body have one name."""
        return re.sub(r".*/|\d+$", "", self.operation["responses"]["429"]["$ref"])

    def parameters(self, place: str) -> dict[str, Schema]:
        """Schemas of the parameters in the path, the query or the headers, by name."""
        given = self.operation.get("parameters", ())
        return {parameter["name"]: parameter["schema"] for parameter in given if parameter["in"] == place}

    def body_fields(self) -> Mapping[str, Schema]:
        """The fields of a JSON body."""
        content = self.operation.get("requestBody", {}).get("content", {})
        schema = _resolved(content.get("application/json", {}).get("schema", {}), self.document)
        fields: Mapping[str, Schema] = schema.get("properties", {})
        return fields

    def request(self, things: Mapping[str, str], *, query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """A request's arguments for a test client, with what is required in it.

        Args:
            things: Values of the path's parameters, by name.
            query: More parameters of the query.

        Raises:
            LookupError: something in it cannot be filled: say how in this module, or give it an example.
        """
        wanted = {name for name in self.parameters("path") if name not in things}
        if wanted:
            raise LookupError(f"{self}: nobody knows a value of {wanted}")
        filled = {name: _value(schema, self.document, f"{self}: {name}") for name, schema in self._required_query()}
        arguments: dict[str, Any] = {
            "path": self.path.format(**things),
            "method": self.method,
            "query_string": {**filled, **(query or {})},
        }
        if self.has_body:
            arguments |= self._body()
        return arguments

    def _required_query(self) -> list[tuple[str, Schema]]:
        return [
            (parameter["name"], parameter["schema"])
            for parameter in self.operation.get("parameters", ())
            if parameter["in"] == "query" and parameter["required"]
        ]

    def _body(self) -> dict[str, Any]:
        content = self.operation["requestBody"]["content"]
        if "application/json" in content:
            return {"json": _value(content["application/json"]["schema"], self.document, f"{self}: body")}
        return {"data": b"bytes", "content_type": next(iter(content))}


def described(document: Mapping[str, Any]) -> list[Described]:
    """Every operation of a document."""
    return [
        Described(document, path, method.upper(), operation)
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    ]


def committed_document() -> dict[str, Any]:
    """The gateway's document in the repository."""
    document: dict[str, Any] = json.loads(FILE.read_bytes())
    return document


def _resolved(schema: Schema, document: Mapping[str, Any]) -> Schema:
    while "$ref" in schema:
        part: Any = document
        for name in schema["$ref"].removeprefix("#/").split("/"):
            part = part[name]
        schema = part
    return schema


def _value(schema: Schema, document: Mapping[str, Any], what: str) -> Any:
    """A value that the schema allows."""
    schema = _resolved(schema, document)
    if schema.get("format") == "byte":
        return "AAAA"  # nothing that would be worked on
    for known in ("const", "default"):
        if known in schema:
            return schema[known]
    for known in ("examples", "enum"):
        if known in schema:
            return schema[known][0]
    if "anyOf" in schema:
        return _value(schema["anyOf"][0], document, what)
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            return {name: _value(fields[name], document, f"{what}.{name}") for name in schema.get("required", ())}
        case "array":
            return [_value(schema["items"], document, f"{what}[]")] * schema.get("minItems", 0)
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return False
        case "string" if "pattern" not in schema:
            return "text"
    raise LookupError(f"{what}: nobody knows a value of {schema}; an example in its schema would do")
