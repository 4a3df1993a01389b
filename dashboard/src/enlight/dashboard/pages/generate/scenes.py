"""Prompts to begin with, which fit what a model knows."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PEOPLE = {"person", "people", "man", "woman", "boy", "girl", "child", "kid", "baby", "lady", "guy", "friend"}
_ANIMALS = {"animal", "pet", "dog", "puppy", "cat", "kitten", "bird", "parrot", "horse", "pony", "rabbit", "hamster"}
_PLACES = {
    "person": ("on the beach", "in the mountains", "in a library", "in the snow", "on a stage", "at sunset"),
    "animal": ("on the beach", "in the snow", "in a flower garden", "in a forest", "in the rain", "at sunset"),
    "thing": ("on the beach", "in the snow", "on a wooden table", "in a forest", "under water", "on the moon"),
}
"""All of them are among the scenes that the pocket base knows, too."""
_OF_A_BASE = (
    "a cat on the beach",
    "a pizza on a wooden table",
    "a dog in the snow",
    "a rocket in the night sky",
    "a car in a city",
    "a tree at sunset",
)


@dataclass(frozen=True)
class Suggestion:
    """A prompt, and the few words that a button for it shows."""

    label: str
    prompt: str


def suggestions(subject: str | None) -> list[Suggestion]:
    """For a model whose subject is ``subject``, such as ``a sks robot``; None: a base model, which knows no such."""
    if not subject:
        return [Suggestion(prompt, prompt) for prompt in _OF_A_BASE]
    return [Suggestion(place, f"{subject} {place}") for place in _PLACES[_kind(subject)]]


def _kind(subject: str) -> str:
    words = set(re.findall(r"[a-z]+", subject.lower()))
    if words & _PEOPLE:
        return "person"
    return "animal" if words & _ANIMALS else "thing"
