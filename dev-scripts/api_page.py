"""docs/api.md: each route's fields with type, range and default, read from the body classes."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from enlight.dreambooth_api.photo_preflight import WARNING_CODES
from enlight.dreambooth_api.schemas import GenerationBody, InferenceBody, PhotosCheckBody, TrainBody, TrainingBody
from enlight.servicekit.errors import ServiceError, error_classes

INTRODUCTION = """# API

Bodies are JSON objects. Types are strict: a number is a JSON number, never a string or a boolean. An unknown field is
an error. Pictures travel as base64 (no `data:` prefix): PNG, JPEG, WebP or HEIC, at most 25 megapixels and 8192 pixels
a side; EXIF turns are applied, transparency is flattened on white, of an animation the first frame is taken. This page
is made from the code by `make docs`; a test compares them. A running service has the same, with every answer, at
`/docs` and `/openapi.json`.
"""

ROUTES: tuple[tuple[str, str, type[BaseModel] | None, str], ...] = (
    (
        "POST /train",
        "Trains and answers when the model is in the bucket and the local copy is gone. A client that leaves cancels "
        "the training; an identical request joins one that runs, and after an interruption goes on from the last "
        "checkpoint.",
        TrainBody,
        '{"message": "Training is done.", "model_id": "Alex-Model-Fun"}',
    ),
    (
        "POST /inference",
        "Makes pictures with a trained model.",
        InferenceBody,
        '{"message": "Inference is done.", "images": ["<base64 PNG>", "..."]}',
    ),
    (
        "POST /v1/generations",
        "Makes pictures with a trained model or a base model and says what really ran: seed, steps, scheduler, batch, "
        "where the weights were found, seconds queued and run.",
        GenerationBody,
        '{"images": ["<base64>"], "seed": 3, "model_version": "...", "batch_images": 1, "cache_tier": "resident", ...}',
    ),
    (
        "POST /v1/trainings",
        "Accepts a training and answers 202 at once. `GET /v1/trainings/<id>` shows it, `GET /v1/trainings` lists "
        "(`?state=running&limit=100`), `GET /v1/trainings/<id>/events` follows it as server-sent events `state` and "
        "`progress` (resumable by `Last-Event-ID`), `POST /v1/trainings/<id>/cancel` ends it within one step. "
        "A `preset` of the base model says what the body leaves out; it goes before the service's settings.",
        TrainingBody,
        '{"id": "tr-...", "state": "queued", "preset": "full", "position": 0, "progress": null, ...}',
    ),
    (
        "POST /v1/photos/check",
        "Says before a training what is amiss with the photos; nothing is kept, and what can be trained on is never "
        "refused. Warnings have a stable `code` (" + ", ".join(f"`{code}`" for code in WARNING_CODES) + "), a message "
        "that says what to do, and the photos by their place from 0; every photo repeats the codes that name it. "
        "`POST /v1/trainings` answers and records the same warnings, `POST /train` answers their messages. Blur is "
        "judged at the training's resolution: a large soft photo may be sharp at 64 pixels.",
        PhotosCheckBody,
        '{"ok": false, "base_model": "enlight/pocket", "resolution": 64, "photos": [{"width_px": 256, '
        '"height_px": 256, "warnings": ["blurred"]}, ...], "warnings": [{"code": "blurred", '
        '"message": "photos[0]: blurred, even at ...", "photos": [0]}]}',
    ),
    (
        "GET /v1/base-models",
        "Lists the base models that requests may name, whether their weights are on this machine, and their training "
        "presets. Presets are read from `training_presets.json` in a base's folder; `seed`, what `/train` does by "
        "default, is there for every base.",
        None,
        '{"default": "enlight/pocket", "base_models": [{"name": "enlight/pocket", "weights_here": true, '
        '"native_size_px": 64, "recommended_preset": "full", "presets": [{"name": "full", "description": "...", '
        '"parameters": {"max_training_steps": 150, ...}}, ...], ...}, ...]}',
    ),
)


def api_page() -> str:
    """The page's text."""
    sections = [_route(*route) for route in ROUTES]
    return INTRODUCTION + "\n## dreambooth-api, port 5000\n" + "".join(sections) + _other_routes() + _errors()


def _route(name: str, text: str, body: type[BaseModel] | None, answer: str) -> str:
    fields = f"{_fields(body)}\n" if body else ""
    return f"\n### {name}\n{text}\n\n{fields}Answer: `{answer}`\n"


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
    return (
        "" if default is None else f"`{default!r}`".replace("'", '"').replace("True", "true").replace("False", "false")
    )


def _type(described: dict[str, Any]) -> str:
    kinds = [kind for kind in described.get("anyOf", [described]) if kind.get("type") != "null"]
    (kind,) = kinds
    if "enum" in kind:
        return "one of " + ", ".join(f"`{value}`" for value in kind["enum"])
    text = str(kind["type"])
    low = [f"at least {kind['minimum']:g}"] if "minimum" in kind else []
    low += [f"above {kind['exclusiveMinimum']:g}"] if "exclusiveMinimum" in kind else []
    high = [f"at most {kind['maximum']:g}"] if "maximum" in kind else []
    high += [f"below {_number(kind['exclusiveMaximum'])}"] if "exclusiveMaximum" in kind else []
    if kind["type"] == "array":
        low, high = [f"{kind['minItems']} to {kind['maxItems']} items"], []
    return ", ".join([text, *low, *high])


def _number(value: float) -> str:
    return "2^63" if value == 2**63 else f"{value:g}"


def _other_routes() -> str:
    return """
### Besides
`GET /` names the service; `GET /live` answers while the process lives; `GET /ready` answers 200 when the engine is
ready or busy, else 503, with the state (`starting`, `ready`, `busy`, `defunct`) and the reasons; `GET /metrics` is for
Prometheus; `GET /openapi.json` and `GET /docs` are the interface's description.

Further limits are settings of the service: prompts of at most 2,000 characters, 50 pictures a request, widths, heights
and resolutions in multiples of 8 within the base model's range ([settings.md](settings.md)). Names of models are 1 to
64 letters, digits, `.`, `_`, `-`, and start with a letter or digit.
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
        "Codes are stable, messages are for people.\n\n"
        "| status | code | worth trying again | when |\n| --- | --- | --- | --- |\n" + "".join(rows)
    )


def _first_line(error_class: type[ServiceError]) -> str:
    return (error_class.__doc__ or "").splitlines()[0]
