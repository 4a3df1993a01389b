"""Marks in a prompt that pick models: ``<lora:name:weight>``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from enlight.servicekit.errors import InvalidField

_MARK = re.compile(r"<(\w+):([^<>]{1,300})>")


@dataclass(frozen=True)
class MarkedPrompt:
    """A prompt without its marks."""

    text: str
    lora: str | None
    """The model that they pick."""


def read_marks(prompt: str) -> MarkedPrompt:
    """The prompt, and the model that it picks.

    Raises:
        InvalidField: a mark of another kind, another weight than 1, or two models.
    """
    names: list[str] = []
    for kind, arguments in _MARK.findall(prompt):
        name, *weights = (part.strip() for part in arguments.split(":"))
        if kind != "lora":
            raise InvalidField.of("prompt", f"<{kind}:...> is not to be had here; <lora:name:1> is")
        if any(not _is_one(weight) for weight in weights):
            raise InvalidField.of("prompt", f"<lora:{name}:...> has the weight 1 here, and no other")
        names.append(name)
    if len(set(names)) > 1:
        raise InvalidField.of("prompt", f"one model at a time: {' and '.join(sorted(set(names))[:2])} were picked")
    return MarkedPrompt(_MARK.sub("", prompt).strip(), names[0] if names else None)


def _is_one(weight: str) -> bool:
    return re.fullmatch(r"\+?1(\.0*)?", weight) is not None
