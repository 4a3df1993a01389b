"""Subjects no bundled model was ever trained on: they play the user's own subject.

Chosen by eye: distinctive, and without a near-twin among the trained subjects.
"""

from __future__ import annotations

TEST_SUBJECTS: tuple[str, ...] = (
    "robot",
    "teapot",
    "unicorn",
    "tyrannosaurus",
    "penguin",
    "saxophone",
    "castle",
    "backpack",
    "pineapple",
    "rocket",
    "owl",
    "space monster",
    "telescope",
    "cupcake",
    "lobster",
    "cactus",
    "pumpkin",
    "tractor",
    "top hat",
    "moai",
)
"""For tests and demonstrations: nothing may be tuned on them."""

TUNING_SUBJECTS: tuple[str, ...] = (
    "flamingo",
    "teddy bear",
    "accordion",
    "fire extinguisher",
    "roller skate",
    "toolbox",
    "octopus",
    "mushroom",
    "crown",
    "bubble tea",
    "ghost",
    "motor scooter",
    "peacock",
    "russian doll",
    "carousel horse",
    "die",
    "helicopter",
    "skateboard",
    "drum",
    "sloth",
)
"""For choosing learning rates and step counts."""

HELD_OUT_SUBJECTS: frozenset[str] = frozenset(TEST_SUBJECTS + TUNING_SUBJECTS)
