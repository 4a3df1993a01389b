"""What a picture's record says, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KINDS = {"generation": "Generated", "cutout": "Background removed", "upscale": "Enlarged"}
NETWORKS = {
    "RealESRGAN_x4plus": "a photo",
    "RealESRGAN_x4plus_anime_6B": "a drawing",
    "realesr-animevideov3": "anything, quickly",
}
"""What each network for enlarging is good for; the first one is main-api's own choice."""
_NAMES = {
    "prompt": "Text",
    "negative_prompt": "Not in it",
    "seed": "Seed",
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "scheduler": "Sampler",
    "base_model": "Base model",
    "model_version": "Model version",
    "out_resolution": "Long side",
    "model_name": "Network",
    "model": "Network",
    "background": "Background",
}
_SAID_ELSEWHERE = frozenset({"width", "height", "format"})


def caption(picture: Mapping[str, Any]) -> str:
    """One line for a list, and for those who do not see the picture."""
    prompt = picture["parameters"].get("prompt")
    if prompt:
        return str(prompt)
    words = KINDS.get(picture["kind"], picture["kind"])
    return f"{words}, made with {picture['model_id']}" if picture["model_id"] else words


def facts(picture: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything that it was made with, by name."""
    parameters = picture["parameters"]
    # In the order above; then what a newer main-api may say besides.
    names = [name for name in _NAMES if name in parameters]
    names += sorted(name for name in parameters if name not in _NAMES and name not in _SAID_ELSEWHERE)
    found = [("Model", picture["model_id"])]
    found += [(_NAMES.get(name, name.replace("_", " ").capitalize()), parameters[name]) for name in names]
    found.append(("Size", f"{picture['width']} × {picture['height']} pixels"))
    return [(name, _words(value)) for name, value in found if value not in (None, "")]


def _words(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
