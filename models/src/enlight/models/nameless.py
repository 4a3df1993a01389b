"""Glyphs of the font that the catalogue has no everyday name for: faces, hands, signs, clocks.

The autoencoder is trained on them besides the catalogue: the more kinds of shapes and colours it has seen, the better
it keeps those of a subject that it has not.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from functools import cache

from enlight.models.glyphs import render_glyph
from enlight.models.held_out import HELD_OUT_SUBJECTS
from enlight.models.subjects import all_subjects

_BLOCKS = (range(0x2300, 0x27C0), range(0x2900, 0x2C00), range(0x1F300, 0x1FB00))
_PROBE_PX = 32
_MIN_INK = 0.05
"""Glyphs whose colours vary less than this (or that cover less of their square) have nothing to teach."""


@cache
def nameless_characters() -> tuple[str, ...]:
    """The characters, in the order of their code points; none of them shows a held-out subject.

    Raises:
        OSError: the font is not installed.
    """
    return tuple(_characters())


def _characters() -> Iterator[str]:
    catalogue = {subject.character for subject in all_subjects()}
    held_out = {word for name in HELD_OUT_SUBJECTS for word in name.split()}
    for character in (chr(code_point) for block in _BLOCKS for code_point in block):
        name = unicodedata.name(character, "").lower()
        if not name or character in catalogue or held_out & set(name.split()):
            continue
        try:
            glyph = render_glyph(character, _PROBE_PX) / 255.0
        except ValueError:
            continue
        if (glyph[..., 3] > 0.5).mean() > _MIN_INK and glyph[..., :3].std() > _MIN_INK:
            yield character
