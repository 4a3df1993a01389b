from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest

from enlight.models.glyphs import render_glyph
from enlight.models.nameless import nameless_characters
from enlight.models.subjects import all_subjects, subject_named


def test_glyph_is_deterministic_centred_and_premultiplied(font: Path) -> None:
    # Given a subject / When it is drawn twice
    first = render_glyph(subject_named("teapot").character, 48, font)
    again = render_glyph(subject_named("teapot").character, 48, font)
    # Then both are equal, colours never exceed alpha, and the border is empty
    np.testing.assert_array_equal(first, again)
    assert (first[..., :3] <= first[..., 3:]).all()
    alpha = first[..., 3]
    assert alpha.max() == 255
    assert not alpha[0].any()
    assert not alpha[:, 0].any()
    rows, columns = np.nonzero(alpha > 10)
    assert abs(rows.min() + rows.max() - 47) <= 2
    assert abs(columns.min() + columns.max() - 47) <= 2


def test_undrawable_character_is_refused(font: Path) -> None:
    with pytest.raises(ValueError, match="U\\+0020"):
        render_glyph(" ", 48, font)


def test_nameless_glyphs_show_nothing_of_the_catalogue_and_no_held_out_subject(font: Path) -> None:
    characters = nameless_characters()
    assert 500 < len(characters) == len(set(characters))
    assert not {subject.character for subject in all_subjects()} & set(characters)
    # A crown is held out, so a person with one is no training picture either
    names = {unicodedata.name(character) for character in characters}
    assert "GRINNING FACE" in names
    assert "PERSON WITH CROWN" not in names
