from __future__ import annotations

from pathlib import Path

import pytest

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.captions import FORMS, caption
from enlight.models.settings import RecipeSettings
from enlight.models.subjects import all_subjects
from enlight.models.tokenizer import load_tokenizer, train_tokenizer


@pytest.mark.parametrize(
    "text", ["a photo of a sks robot on the beach", "grüße, 日本 & co.", "a 3d teapot!", "zwx qqq", "it's a cat's hat"]
)
def test_any_text_survives_a_round_trip(pocket_folder: Path, text: str) -> None:
    # Given the bundled tokenizer / When a text is encoded and decoded
    tokenizer = load_tokenizer(pocket_folder / "tokenizer")
    ids = tokenizer(text)["input_ids"]
    decoded = str(tokenizer.decode(ids, skip_special_tokens=True))
    # Then nothing is lost but spaces, and the ends are marked
    assert decoded.replace(" ", "") == text.replace(" ", "")
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert ids.count(tokenizer.eos_token_id) == 1


def test_captions_fit_and_are_short(pocket_folder: Path) -> None:
    # Given every subject with the longest phrase / When it is encoded
    tokenizer = load_tokenizer(pocket_folder / "tokenizer")
    phrase = max((p for background in BACKGROUNDS for p in background.phrases), key=len)
    lengths = [len(tokenizer(caption(subject, phrase, "photo"))["input_ids"]) for subject in all_subjects()]
    # Then it fits with room for more words
    assert max(lengths) <= tokenizer.model_max_length // 2 + 4
    assert len(tokenizer("sks")["input_ids"]) == 3


def test_training_gives_a_vocabulary_as_good_as_the_bundled_one(pocket_folder: Path, tmp_path: Path) -> None:
    # Given the captions of this version / When a tokenizer is trained again (its ids may differ: ties are random)
    train_tokenizer(tmp_path / "tokenizer", RecipeSettings())
    again, bundled = load_tokenizer(tmp_path / "tokenizer"), load_tokenizer(pocket_folder / "tokenizer")
    # Then it has about as many pieces, spells captions as briefly, and loses nothing
    assert abs(len(again) - len(bundled)) <= 10
    texts = [caption(subject, "on the beach", form) for subject in all_subjects()[::7] for form in FORMS]
    lengths = [[len(ids) for ids in tokenizer(texts)["input_ids"]] for tokenizer in (again, bundled)]
    assert abs(sum(lengths[0]) - sum(lengths[1])) < 0.03 * sum(lengths[1])
    for text, ids in zip(texts, again(texts)["input_ids"], strict=True):
        assert str(again.decode(ids, skip_special_tokens=True)).replace(" ", "") == text.replace(" ", "")
