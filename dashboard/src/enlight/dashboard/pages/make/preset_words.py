"""Base models and their presets as the page offers them: in words for people who train nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class PresetChoice:
    """One preset."""

    name: str
    title: str
    text: str
    steps: int | None
    recommended: bool


RECOMMENDED = PresetChoice("recommended", "Recommended", "What suits the base model best.", None, recommended=True)
"""What can be had even while the base models cannot be asked for."""


def preset_choices(base_model: Mapping[str, Any]) -> list[PresetChoice]:
    """The presets of a base model of ``GET /v1/base-models``, the recommended one first."""
    choices = [_choice(preset, base_model["recommended_preset"]) for preset in base_model["presets"]]
    titles = [choice.title for choice in choices]
    named = [
        choice if titles.count(choice.title) == 1 else PresetChoice(**{**vars(choice), "title": _spelt(choice.name)})
        for choice in choices
    ]
    return sorted(named, key=lambda choice: not choice.recommended)


def find_base_model(base_models: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The base model ``name`` of ``GET /v1/base-models``; the default one where there is none of that name."""
    known: dict[str, Mapping[str, Any]] = {base["name"]: base for base in base_models["base_models"]}
    return known.get(name) or known.get(base_models["default"]) or base_models["base_models"][0]


def _choice(preset: Mapping[str, Any], recommended: str | None) -> PresetChoice:
    title, text = _words(preset)
    steps = preset["parameters"].get("max_training_steps")
    return PresetChoice(preset["name"], title, text, steps, recommended=preset["name"] == recommended)


def _words(preset: Mapping[str, Any]) -> tuple[str, str]:
    parameters = preset["parameters"]
    if preset["name"] == "seed":
        return "Classic", "Slow and careful, with the values that are usual for Stable Diffusion."
    if parameters.get("kind") == "lora":
        return "Quick and small", "Trains fastest, and the model takes hardly any room."
    if parameters.get("kind") != "full":
        return _spelt(preset["name"]), preset["description"]
    if parameters.get("prior_preservation"):
        return "Keeps the rest", "Also practises on others of its kind, so that it still knows those. Takes longer."
    if parameters.get("train_text_encoder"):
        return "Closest likeness", "Learns the look and the word for it, so that most ways of asking work."
    return "Steady", "Learns the look only: a safe choice when the closest likeness overdoes it."


def _spelt(name: str) -> str:
    return name.replace("-", " ").capitalize()
