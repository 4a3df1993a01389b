from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.captions import FORM_WEIGHTS, FORMS, build_caption_table, caption, varied_caption
from enlight.models.subjects import all_subjects, subject_named
from enlight.models.tokenizer import load_tokenizer
from enlight.models.variations import VARIATIONS


def test_wordings() -> None:
    pizza, parrot = subject_named("pizza"), subject_named("parrot")
    assert caption(pizza, "on the beach", "article") == "a pizza on the beach"
    assert caption(pizza, "on the beach", "bare") == "pizza on the beach"
    assert caption(pizza, "on a red background", "photo") == "a photo of a pizza on a red background"
    assert caption(parrot, "in the snow", "kind") == "a bird in the snow"
    assert caption(subject_named("key"), "in the snow", "kind") == "a tool in the snow"
    assert caption(subject_named("feather"), "in the snow", "kind") == "a feather in the snow"
    assert caption(pizza, "", "article") == "a pizza"


def test_variations() -> None:
    words = {variation.word: variation for variation in VARIATIONS}
    assert varied_caption(subject_named("pizza"), "on the beach", words["small"]) == "a small pizza on the beach"
    assert varied_caption(subject_named("umbrella"), "", words["blue"]) == "a blue umbrella"
    assert varied_caption(subject_named("pizza"), "", words["orange"]) == "an orange pizza"
    assert varied_caption(subject_named("grapes"), "", words["green"]) == "green grapes"
    assert VARIATIONS[0].word == ""
    assert sum(variation.share for variation in VARIATIONS) == pytest.approx(1.0)


def test_caption_table_tells_all_wordings(pocket_folder: Path) -> None:
    # Given the table of all captions / When some of it is read back
    tokenizer = load_tokenizer(pocket_folder / "tokenizer")
    table = build_caption_table(tokenizer)
    number = [subject.name for subject in all_subjects()].index("pizza")
    first = int(table.phrase_start[[background.name for background in BACKGROUNDS].index("beach")])

    def text(ids: np.ndarray) -> str:
        return str(tokenizer.decode(ids.tolist(), skip_special_tokens=True)).strip()

    # Then each is at its place
    assert text(table.tokens[number, first, FORMS.index("photo")]) == "a photo of a pizza on the beach"
    words = [variation.word for variation in VARIATIONS[1:]]
    assert text(table.varied_tokens[number, first, words.index("blue")]) == "a blue pizza on the beach"
    assert text(table.varied_tokens[number, -1, words.index("small")]) == "a small pizza"
    assert text(table.empty) == ""


def test_empty_scenes() -> None:
    red = next(background for background in BACKGROUNDS if background.name == "red")
    assert caption(None, red.bare, "article") == "a red background"
    assert caption(None, red.bare, "photo") == "a photo of a red background"
    assert caption(None, "", "photo") == ""


def test_form_weights_cover_all_forms() -> None:
    assert len(FORMS) == len(FORM_WEIGHTS)
    assert abs(sum(FORM_WEIGHTS) - 1.0) < 1e-9
