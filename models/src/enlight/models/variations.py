"""The words that change how a subject is drawn: sizes and colours, as in "a small cat" and "a blue cat"."""

from __future__ import annotations

from dataclasses import dataclass

from enlight.models.subjects import Subject


@dataclass(frozen=True)
class Variation:
    """One way of drawing a subject."""

    word: str
    """Before the noun of the caption; empty for the subject as it is."""
    share: float
    """How many training pictures are drawn so."""
    scales: tuple[float, float] | None = None
    """Longest side of the subject as a share of the picture's side, from and to; None: the recipe's."""
    rgb: tuple[int, int, int] | None = None
    """Colour that the subject is dyed with, its light and shade kept; None: its own colours."""

    def suits(self, subject: Subject) -> bool:
        """False where the word would contradict the name, such as a blue red car or a small big thing."""
        words = set(subject.name.split())
        return not self.word or not words & _WORDS


VARIATIONS: tuple[Variation, ...] = (
    Variation("", 0.72),
    Variation("small", 0.06, scales=(0.34, 0.48)),
    Variation("big", 0.06, scales=(0.88, 1.0)),
    Variation("red", 0.02, rgb=(222, 45, 40)),
    Variation("orange", 0.02, rgb=(245, 135, 30)),
    Variation("yellow", 0.02, rgb=(245, 210, 50)),
    Variation("green", 0.02, rgb=(50, 160, 70)),
    Variation("blue", 0.02, rgb=(45, 95, 215)),
    Variation("purple", 0.02, rgb=(130, 65, 180)),
    Variation("pink", 0.02, rgb=(245, 140, 185)),
    Variation("gray", 0.02, rgb=(128, 128, 130)),
)
"""The first one is the subject as it is."""

_WORDS = {variation.word for variation in VARIATIONS[1:]} | {"little", "white", "black", "brown", "golden", "silver"}
