"""The fields of a route's body as options of a command line, so that names, types and help are those of the service."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Collection
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

EPILOG = (
    "What the service sets is set here by the same variables, DREAMBOOTH_API_...; docs/settings.md has them all. "
    "The base models' presets are in training_presets.json in their folders."
)


def add_body_options(parser: argparse.ArgumentParser, body: type[BaseModel], *, without: Collection[str] = ()) -> None:
    """Adds ``--model-id`` for a field ``model_id``, and so on, for all fields but those of ``without``."""
    for name, field in body.model_fields.items():
        if name not in without:
            parser.add_argument(
                "--" + name.replace("_", "-"),
                required=field.is_required(),
                default=argparse.SUPPRESS,  # what is not given is left to the body's own default
                type=_reader(field),
                metavar="VALUE",
                help=_help(field),
            )


def _reader(field: FieldInfo) -> Callable[[str], Any]:
    assert field.annotation is not None
    adapter: TypeAdapter[Any] = TypeAdapter(field.annotation)

    def read(text: str) -> object:
        try:
            return adapter.validate_strings(text)
        except ValidationError as error:
            raise argparse.ArgumentTypeError(error.errors()[0]["msg"]) from None

    return read


def _help(field: FieldInfo) -> str:
    text = (field.description or "").replace(" (`GET /v1/base-models`)", "").replace("this body", "this command")
    if field.default and not field.is_required():
        text += f" Omitted: `{field.default}`."
    return text.replace("%", "%%")
