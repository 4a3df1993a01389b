"""Colours and rembg's own ways of writing options."""

from __future__ import annotations

import json
import re
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from enlight.bgrem.requests import Colour

_COLOUR_NAMES: dict[str, Colour] = {"white": (255, 255, 255, 255), "black": (0, 0, 0, 255)}
_HEXADECIMAL = "#([0-9a-fA-F]{6}|[0-9a-fA-F]{8})"
_DECIMAL = "[0-9]{1,3}( ?, ?[0-9]{1,3}){2,3}"
_REMBG_DECIMAL = " *[0-9]{1,3} *(, *[0-9]{1,3} *){2,3}"
_COLOUR_PATTERN = f"^({'|'.join(_COLOUR_NAMES)}|{_HEXADECIMAL}|{_DECIMAL})$"
"""What a schema can say of a colour; that its numbers end at 255 is not in it."""


def parse_colour(text: str) -> Colour:
    """The colour that is written as ``white``, ``black``, ``#rrggbb``, ``#rrggbbaa``, ``r,g,b`` or ``r,g,b,a``.

    Raises:
        ValueError: it is written otherwise.
    """
    if text in _COLOUR_NAMES:
        return _COLOUR_NAMES[text]
    if re.fullmatch(_HEXADECIMAL, text):
        parts = list(bytes.fromhex(text[1:]))
    elif re.fullmatch(_DECIMAL, text):
        parts = [int(part) for part in text.split(",")]
    else:
        raise ValueError("must be white, black, #rrggbb, #rrggbbaa, or r,g,b or r,g,b,a of numbers up to 255")
    red, green, blue, opacity = [*parts, 255][:4]
    if max(parts) > 255:
        raise ValueError("must be of numbers up to 255")
    return red, green, blue, opacity


def _colour_text(value: object) -> object:
    if isinstance(value, str):
        parse_colour(value)
    return value


def _rembg_colour_text(value: object) -> object:
    if value == "":
        return None
    if isinstance(value, str) and not re.fullmatch(_REMBG_DECIMAL, value):
        raise PydanticCustomError("colour", "must be r,g,b,a: four numbers up to 255")
    return value.replace(" ", "") if isinstance(value, str) else value


def _extras(value: object) -> object:
    """The JSON object in the text; the parser's own error is the field's."""
    if not isinstance(value, str):
        return value
    if not value.strip():
        return {}
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise PydanticCustomError("extras", "must be a JSON object") from None


ColourText = Annotated[
    str,
    BeforeValidator(_colour_text),
    Field(examples=["white"], json_schema_extra={"pattern": _COLOUR_PATTERN}),
]
RembgColourText = Annotated[
    Annotated[
        str,
        BeforeValidator(_colour_text),
        Field(examples=["255,255,255,255"], json_schema_extra={"pattern": f"^({_REMBG_DECIMAL})?$"}),
    ]
    | None,
    BeforeValidator(_rembg_colour_text),
]
"""rembg's ``bgc``: numbers only; empty, as its own form sends it: none."""
AsJson = BeforeValidator(_extras)
