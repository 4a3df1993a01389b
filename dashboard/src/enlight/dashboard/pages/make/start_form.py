"""The start form: its fields as the API's."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from enlight.dashboard.pages.make.subjects import instance_prompt, model_name
from enlight.servicekit.errors import InvalidField

_START_KEY = re.compile(r"[A-Za-z0-9-]{8,64}")
_NUMBERS: dict[str, tuple[Callable[[str], int | float], str]] = {
    "max_training_steps": (int, "must be a whole number"),
    "resolution": (int, "must be a whole number"),
    "seed": (int, "must be a whole number"),
    "learning_rate": (float, "must be a number such as 0.0001"),
}


def training_fields(form: Mapping[str, str]) -> dict[str, Any]:
    """What ``POST /v1/trainings`` takes, but for the photos; it checks ranges itself.

    Raises:
        InvalidField: something is missing, or is no number.
    """
    name = model_name(form.get("subject_name", ""))
    if not name:
        raise InvalidField.of("subject_name", "give a name with at least one letter from A to Z or a digit")
    prompt = form.get("instance_prompt", "").strip() or instance_prompt(form.get("subject_kind", ""))
    if not prompt:
        raise InvalidField.of("subject_kind", "say in a word what it is, such as dog")
    fields: dict[str, Any] = {"model_id": name, "instance_prompt": prompt}
    for field in ("base_model", "preset"):
        if given := form.get(field, "").strip():
            fields[field] = given
    for field, (read, problem) in _NUMBERS.items():
        if given := form.get(field, "").strip():
            try:
                fields[field] = read(given)
            except ValueError as error:
                raise InvalidField.of(field, problem) from error
            if not math.isfinite(fields[field]):
                raise InvalidField.of(field, problem)
    if form.get("samples"):
        fields["sample_prompt"] = form.get("sample_prompt", "").strip() or prompt
    return fields


def start_key(form: Mapping[str, str]) -> str:
    """What tells a form that is sent again from a new one. Raises InvalidField."""
    key = form.get("start_key", "")
    if not _START_KEY.fullmatch(key):
        raise InvalidField.of("start_key", "load the page again, then send the photos once more")
    return key
