"""A JSON schema of ``/openapi.json`` as a Markdown table: field by field, with types, ranges and defaults."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

_RULE = "| --- "
_PLURALS = {"string": "strings", "integer": "integers", "object": "objects"}


def inlined(schema: Any, document: Mapping[str, Any]) -> Any:  # noqa: ANN401 -- any JSON
    """``schema`` with what its references mean in their place."""
    if isinstance(schema, list):
        return [inlined(item, document) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        meant: Any = document
        for step in schema["$ref"].removeprefix("#/").split("/"):
            meant = meant[step]
        return inlined({**meant, **{key: value for key, value in schema.items() if key != "$ref"}}, document)
    return {key: inlined(value, document) for key, value in schema.items()}


def request_table(schema: Schema) -> str:
    """What a client may send: an object's schema without references."""
    required = set(schema.get("required", ()))
    return (
        _row("field", "type and range", "default", "meaning")
        + _RULE * 4
        + "|\n"
        + "".join(
            _row(
                f"`{name}`", _type(field, with_null=False), _default(field, required=name in required), _meaning(field)
            )
            for name, field in schema["properties"].items()
        )
    )


def answer_table(schema: Schema, links: Mapping[str, str]) -> str:
    """What a client gets: an object's schema without references. What a field holds is named with dots.

    Args:
        schema: The object's.
        links: To objects that need no second table, by `identity`.
    """
    rows = (_row(f"`{name}`", kind, _meaning(field)) for name, kind, field in _flat(schema, links))
    return _row("field", "type", "meaning") + _RULE * 3 + "|\n" + "".join(rows)


def identity(schema: Schema) -> str:
    """Equal for equal objects, whatever is said about them where they are used."""
    return json.dumps(schema["properties"], sort_keys=True)


def _row(*cells: str) -> str:
    return "|" + "|".join(f" {cell} " if cell else " " for cell in cells) + "|\n"


def _flat(schema: Schema, links: Mapping[str, str], prefix: str = "") -> Iterator[tuple[str, str, Schema]]:
    """Name, type and schema of each field, and of the fields of the objects within."""
    for name, field in schema["properties"].items():
        kind, held = _type(field, with_null=True), _held(field)
        link = links.get(identity(held)) if held else None
        yield prefix + name, f"{kind}, as {link} answers" if link else kind, field
        if held and not link:
            brackets = "[]" if kind.startswith("list") else ""
            yield from _flat(held, links, f"{prefix}{name}{brackets}.")


def _held(field: Schema) -> Schema | None:
    """The object in a field, or in its list."""
    for kind in _kinds(field):
        item = kind.get("items", {}) if kind.get("type") == "array" else kind
        if "properties" in item:
            return dict(item)
    return None


def _kinds(field: Schema) -> list[Schema]:
    return [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]


def _type(field: Schema, *, with_null: bool) -> str:
    names = [_kind_name(kind) for kind in _kinds(field)]
    if not names:
        return "null"
    nullable = any(kind.get("type") == "null" for kind in field.get("anyOf", ()))
    if with_null and nullable:
        names.append("null")
    return (", or " if "," in names[0] else " or ").join(names)


def _kind_name(kind: Schema) -> str:
    if "const" in kind:
        return f"`{json.dumps(kind['const'])}`"
    if "enum" in kind:
        return "one of " + ", ".join(f"`{value}`" for value in kind["enum"])
    if kind.get("format") == "date-time":
        return "time (ISO 8601)"
    if kind.get("type") == "array":
        count = f"{kind['minItems']} to {kind['maxItems']} " if "maxItems" in kind else ""
        return f"list of {count}" + _PLURALS.get(str(kind["items"].get("type")), "items")
    ranges = [
        f"{words} {_number(kind[key])}"
        for key, words in (
            ("minimum", "at least"),
            ("exclusiveMinimum", "above"),
            ("maximum", "at most"),
            ("exclusiveMaximum", "below"),
        )
        if key in kind
    ]
    return ", ".join([str(kind.get("type", "object")), *ranges])


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}" if abs(value) < 100_000 else f"{value:,}"


def _default(field: Schema, *, required: bool) -> str:
    if required:
        return "**required**"
    default = field.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def _meaning(field: Schema) -> str:
    told = field.get("description") or _kinds(field)[0].get("description", "")
    return " ".join(str(told).split())
