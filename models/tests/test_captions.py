from __future__ import annotations

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.captions import FORM_WEIGHTS, FORMS, caption
from enlight.models.subjects import subject_named


def test_wordings() -> None:
    pizza, parrot = subject_named("pizza"), subject_named("parrot")
    assert caption(pizza, "on the beach", "article") == "a pizza on the beach"
    assert caption(pizza, "on the beach", "bare") == "pizza on the beach"
    assert caption(pizza, "on a red background", "photo") == "a photo of a pizza on a red background"
    assert caption(parrot, "in the snow", "kind") == "a bird in the snow"
    assert caption(subject_named("key"), "in the snow", "kind") == "a tool in the snow"
    assert caption(subject_named("feather"), "in the snow", "kind") == "a feather in the snow"
    assert caption(pizza, "", "article") == "a pizza"


def test_empty_scenes() -> None:
    red = next(background for background in BACKGROUNDS if background.name == "red")
    assert caption(None, red.bare, "article") == "a red background"
    assert caption(None, red.bare, "photo") == "a photo of a red background"
    assert caption(None, "", "photo") == ""


def test_form_weights_cover_all_forms() -> None:
    assert len(FORMS) == len(FORM_WEIGHTS)
    assert abs(sum(FORM_WEIGHTS) - 1.0) < 1e-9
