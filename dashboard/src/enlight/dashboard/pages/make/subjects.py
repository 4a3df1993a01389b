"""What people call their subject, as the API wants it: a model's name, and a prompt."""

from __future__ import annotations

import re
import unicodedata

RARE_WORD = "sks"
"""Stands for the subject in prompts: a word that no base model connects with anything."""
MAX_NAME_CHARACTERS = 64

_ARTICLE = re.compile(r"^(an?|the|my|our)\s+(?=\S)", re.IGNORECASE)


def model_name(typed: str) -> str:
    """A name that main-api takes, like what was typed; empty: nothing of it can be used."""
    spelt = unicodedata.normalize("NFKD", typed.replace("ß", "ss"))
    plain = "".join(character for character in spelt if not unicodedata.combining(character))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)
    name = re.sub(r"-{2,}", "-", name).lstrip("._-")[:MAX_NAME_CHARACTERS]
    return name.rstrip("._-")


def instance_prompt(kind: str) -> str:
    """``a sks dog`` for ``dog``; empty for nothing."""
    word = _ARTICLE.sub("", " ".join(kind.split()))
    return f"a {RARE_WORD} {word}" if word else ""
