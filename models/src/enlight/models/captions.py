"""Captions: how a picture of a subject on a background is described."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from transformers import CLIPTokenizer

from enlight.models.backgrounds import BACKGROUNDS
from enlight.models.subjects import Subject, all_subjects, with_article
from enlight.models.variations import VARIATIONS, Variation

FORMS = ("article", "bare", "photo", "kind")
FORM_WEIGHTS = (0.62, 0.12, 0.12, 0.14)
NO_PHRASE_SHARE = 0.08
"""How often a caption does not name the background."""


def caption(subject: Subject | None, phrase: str, form: str) -> str:
    """Writes one caption.

    Args:
        subject: what is shown, or None for an empty scene (then `phrase` is the background's bare name).
        phrase: where it is, such as "on the beach"; empty when the caption does not say.
        form: one of FORMS; "kind" names the class ("a bird") where the catalogue has one.
    """
    if subject is None:
        return f"a photo of {phrase}" if form == "photo" and phrase else phrase
    noun = subject.kind if form == "kind" and subject.kind != "thing" else subject.name
    words = noun if form == "bare" else with_article(noun)
    if form == "photo":
        words = f"a photo of {words}"
    return f"{words} {phrase}".strip()


def varied_caption(subject: Subject, phrase: str, variation: Variation) -> str:
    """Writes the caption of a subject drawn small, big or dyed, such as "a blue cat on the beach"."""
    return f"{with_article(f'{variation.word} {subject.name}')} {phrase}".strip()


def all_captions() -> list[str]:
    """Every caption of the data set, trained and held-out subjects alike (the tokenizer's text)."""
    texts = [
        caption(subject, phrase, form)
        for subject in all_subjects()
        for form in FORMS
        for phrase in ("", BACKGROUNDS[len(subject.name) % len(BACKGROUNDS)].phrases[0])
    ]
    for background in BACKGROUNDS:
        texts += [background.bare] * 20
        texts += [phrase for phrase in background.phrases for _ in range(20)]
    return texts


@dataclass(frozen=True)
class CaptionTable:
    """All captions as token ids, looked up by number while training."""

    tokens: np.ndarray
    """(S + 1, P + 1, F, L) int16; the last subject is "nothing", the last phrase is none."""
    varied_tokens: np.ndarray
    """(S, P + 1, V - 1, L) int16: the captions of all variations but the first."""
    phrase_start: np.ndarray
    """(K,) int64: the first phrase of each background."""
    phrase_count: np.ndarray
    """(K,) int64: how many wordings each background has."""
    empty: np.ndarray
    """(L,) int16: the empty caption of classifier-free guidance."""


def build_caption_table(tokenizer: CLIPTokenizer) -> CaptionTable:
    """Tokenizes every caption that training can draw."""
    phrases = [phrase for background in BACKGROUNDS for phrase in background.phrases] + [""]
    bares = [background.bare for background in BACKGROUNDS for _ in background.phrases] + [""]
    counts = np.array([len(background.phrases) for background in BACKGROUNDS], dtype=np.int64)
    texts = [
        caption(subject, (bares if subject is None else phrases)[index], form)
        for subject in (*all_subjects(), None)
        for index in range(len(phrases))
        for form in FORMS
    ]
    varied = [
        varied_caption(subject, phrase, variation)
        for subject in all_subjects()
        for phrase in phrases
        for variation in VARIATIONS[1:]
    ]
    ids = _token_ids(tokenizer, texts).reshape(len(all_subjects()) + 1, len(phrases), len(FORMS), -1)
    varied_ids = _token_ids(tokenizer, varied).reshape(len(all_subjects()), len(phrases), len(VARIATIONS) - 1, -1)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return CaptionTable(ids, varied_ids, starts, counts, _token_ids(tokenizer, [""])[0])


def _token_ids(tokenizer: CLIPTokenizer, texts: list[str]) -> np.ndarray:
    """(N, L) int16, a part of the texts at a time, which bounds the memory."""
    length, part = tokenizer.model_max_length, 50_000
    return np.concatenate(
        [
            np.asarray(
                tokenizer(texts[first : first + part], padding="max_length", truncation=True, max_length=length)[
                    "input_ids"
                ],
                dtype=np.int16,
            )
            for first in range(0, len(texts), part)
        ]
    )
