"""docs/api.md: each service's routes, their fields with type, range and default read from the classes."""

from __future__ import annotations

import json
from typing import Any

from api_routes import BGREM, DREAMBOOTH_API, MAIN_API, REALESRGAN, UPSAMPLER, Route
from pydantic import BaseModel

from enlight.servicekit.errors import ServiceError, error_classes

INTRODUCTION = """# API

Bodies are JSON objects. Types are strict: a number is a JSON number, never a string or a boolean. An unknown field is
an error. Pictures travel as base64 (no `data:` prefix): PNG, JPEG, WebP or HEIC, at most 25 megapixels and 8192 pixels
a side; EXIF turns are applied, of an animation the first frame is taken; dreambooth-api lays transparency on white, the
other services keep it. Fields of a query or a form are text and have the same ranges. This page is made from the code
by `make docs`; a test compares them. A running service has the same, with every answer, at `/docs` and
`/openapi.json`.
"""

SERVICES: tuple[tuple[str, int, tuple[Route, ...], str], ...] = (
    (
        "main-api",
        8040,
        MAIN_API,
        "Every request needs a key, `Authorization: Bearer enl_...` or `X-API-Key`, unless `MAIN_API_KEYS=off`. What "
        "belongs to another tenant is a 404.",
    ),
    (
        "dreambooth-api",
        5000,
        DREAMBOOTH_API,
        "Further limits are settings of the service: prompts of at most 2,000 characters, 50 pictures a request, "
        "widths, heights and resolutions in multiples of 8 within the base model's range "
        "([settings.md](settings.md)). Names of models are 1 to 64 letters, digits, `.`, `_`, `-`, and start with a "
        "letter or digit.",
    ),
    ("bgrem", 4000, BGREM, ""),
    ("upsampler", 4455, UPSAMPLER, ""),
    ("realesrgan", 11111, REALESRGAN, ""),
)


def api_page() -> str:
    """The page's text."""
    return INTRODUCTION + "".join(_service(*service) for service in SERVICES) + _common_routes() + _errors()


def _service(name: str, port: int, routes: tuple[Route, ...], limits: str) -> str:
    sections = "".join(_route(route) for route in routes)
    return f"\n## {name}, port {port}\n{sections}" + (f"\n{limits}\n" if limits else "")


def _route(route: Route) -> str:
    fields = f"{_fields(route.fields)}\n" if route.fields else ""
    answer = f"`{route.answer}`" if route.answer.startswith("{") else route.answer
    return f"\n### {route.name}\n{route.text}\n\n{fields}Answer: {answer}\n"


def _fields(body: type[BaseModel]) -> str:
    schema = body.model_json_schema()
    required = set(schema.get("required", ()))
    rows = [
        f"| `{field}` | {_type(known)} | {_default(field, known, required)} | {known.get('description', '')} |\n"
        for field, known in schema["properties"].items()
    ]
    return "| field | type and range | default | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _default(field: str, described: dict[str, Any], required: set[str]) -> str:
    if field in required:
        return "**required**"
    default = described.get("default")
    return "" if default is None else f"`{json.dumps(default)}`"


def _type(described: dict[str, Any]) -> str:
    kinds = [kind for kind in described.get("anyOf", [described]) if kind.get("type") != "null"]
    (kind,) = kinds
    if "enum" in kind:
        return "one of " + ", ".join(f"`{value}`" for value in kind["enum"])
    text = str(kind.get("type", "JSON object"))
    low = [f"at least {kind['minimum']:g}"] if "minimum" in kind else []
    low += [f"above {kind['exclusiveMinimum']:g}"] if "exclusiveMinimum" in kind else []
    high = [f"at most {kind['maximum']:g}"] if "maximum" in kind else []
    high += [f"below {_number(kind['exclusiveMaximum'])}"] if "exclusiveMaximum" in kind else []
    if text == "array":
        low, high = [f"{kind['minItems']} to {kind['maxItems']} items"], []
    return ", ".join([text, *low, *high])


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}"


def _common_routes() -> str:
    return """
## Every service

`GET /` names the service; `GET /live` answers while the process lives; `GET /ready` answers 200 when the worker is
ready or busy, else 503, with the state (`starting`, `ready`, `busy`, `defunct`) and the reasons; `GET /metrics` is for
Prometheus; `GET /openapi.json` and `GET /docs` are the interface's description.
"""


def _errors() -> str:
    rows = [
        f"| {known.status} | `{known.code}` | {'yes' if known.retryable else 'no'} | {_first_line(known)} |\n"
        for known in sorted(error_classes(), key=lambda known: (known.status, known.code))
    ]
    return (
        "\n## Errors\nEvery error has one body, and every 503 a `Retry-After` header:\n\n"
        '```json\n{"message": "LR: Input should be greater than 0", '
        '"error": {"code": "invalid_field", "details": {"...": "..."}, "request_id": "..."}}\n```\n\n'
        'The two upscalers put `"status": "false"` beside. Codes are stable, messages are for people.\n\n'
        "| status | code | worth trying again | when |\n| --- | --- | --- | --- |\n" + "".join(rows)
    )


def _first_line(error_class: type[ServiceError]) -> str:
    return (error_class.__doc__ or "").splitlines()[0]
