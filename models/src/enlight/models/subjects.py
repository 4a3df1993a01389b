"""The catalogue of subjects: glyphs of the Noto Color Emoji font with everyday names."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from enlight.models.held_out import HELD_OUT_SUBJECTS

_SINGULAR_DESPITE_S = ("ss", "us", "rhinoceros")


@dataclass(frozen=True)
class Subject:
    """One drawable thing."""

    character: str
    """The single code point that draws it."""
    name: str
    kind: str
    """The class noun, such as "bird"; "thing" where no class noun fits."""

    @property
    def held_out(self) -> bool:
        """True when no bundled model may see it in training."""
        return self.name in HELD_OUT_SUBJECTS


@cache
def all_subjects() -> tuple[Subject, ...]:
    """Every subject, in the order of the catalogue file."""
    text = files("enlight.models").joinpath("subjects.csv").read_text(encoding="utf-8")
    return tuple(
        Subject(chr(int(row["codepoint"], 16)), row["name"], row["kind"]) for row in csv.DictReader(text.splitlines())
    )


@cache
def subject_named(name: str) -> Subject:
    """The subject with this name.

    Raises:
        KeyError: no subject has this name.
    """
    for subject in all_subjects():
        if subject.name == name:
            return subject
    raise KeyError(name)


def with_article(noun: str) -> str:
    """Puts "a" or "an" before a noun; plural nouns such as "grapes" stay bare."""
    plural = noun.endswith("s") and not noun.endswith(_SINGULAR_DESPITE_S)
    if plural and " of " not in noun and " with " not in noun:
        return noun
    vowel = noun[0] in "aeio" or noun.startswith("um")  # "a unicorn", "a ufo", but "an umbrella"
    return f"{'an' if vowel else 'a'} {noun}"
