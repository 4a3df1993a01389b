"""The form's text as the body that main-api takes. It judges the values: only what is no number is refused here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from enlight.servicekit.errors import InvalidField

_WHOLE = re.compile(r"[+-]?[0-9]{1,30}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,30}(\.[0-9]{1,30})?")
_SIZE = re.compile(r"([0-9]{1,6})x([0-9]{1,6})")
OTHER_SIZE = "other"


def generation_body(form: Mapping[str, str]) -> dict[str, object]:
    """For ``POST /v1/pictures``; what is left empty is not in it. Raises InvalidField, by the field's name."""
    body: dict[str, object] = {"model_id": form.get("model_id", ""), "prompt": form.get("prompt", "").strip()}
    if negative := form.get("negative_prompt", "").strip():
        body["negative_prompt"] = negative
    size = form.get("size", "")
    if chosen := _SIZE.fullmatch(size):
        body["width"], body["height"] = int(chosen[1]), int(chosen[2])
    elif size != OTHER_SIZE and size:
        raise InvalidField.of("size", "must be one of the list")
    whole = ["num_images", "seed", "num_inference_steps", *(("width", "height") if size == OTHER_SIZE else ())]
    for name in whole:
        if text := form.get(name, "").strip():
            if not _WHOLE.fullmatch(text):
                raise InvalidField.of(name, "must be a whole number")
            body[name] = int(text)  # a seed has up to 63 bits, more than a browser's numbers hold
    if text := form.get("guidance_scale", "").strip().replace(",", "."):
        if not _DECIMAL.fullmatch(text):
            raise InvalidField.of("guidance_scale", "must be a number")
        body["guidance_scale"] = float(text)
    return body
