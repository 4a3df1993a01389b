"""Every number of the benchmark, in one place. To change one is to start a new series of measurements."""

from __future__ import annotations

import hashlib

import numpy as np

SEED = 20261122
"""Photos, prompts of other objects, galleries and trainings are all drawn from it."""
IDENTIFIER = "sks"

PICTURE_SIZE_PX = 64
DENOISING_STEPS = 15
GUIDANCE_SCALE = 5.0
SAMPLE_BATCH = 6
"""Pictures denoised together. Fixed, since sums in another order give other last digits."""

PHOTOS_PER_SUBJECT = 5
PHOTO_SIZE_PX = 256
PHOTO_SCALE = (0.55, 0.85)
"""Longest side of the subject as a share of the picture's, in photos and in the renders compared with."""
SMALL_SCALE = (0.34, 0.48)
"""The same of what the base was taught as "small": there the judge itself is less sure."""
PHOTO_TURN_MAX_DEGREES = 12.0

EXTRA_SEEDS = 2
"""Further pictures of each diversity prompt."""

DISTRACTORS = 200
REFERENCE_RENDERS = 8
"""Real renders behind each reference vector of the gallery."""
JUDGE_CHECK_RENDERS = 8
"""Other renders of each subject, on which the judge itself is measured."""
DIVERSITY_RENDERS = 8
"""Real renders that the spread of the pictures of one prompt is compared with."""

PRIOR_SAME_CLASS = 4
PRIOR_OTHER_CLASS = 4

COPY_RMSE = 0.10
"""A picture closer than this to an instance photo, in levels from 0 to 1, is a copy of it. `copy_threshold.py`
measures what the number rests on."""

BOOTSTRAP_SAMPLES = 10_000
CONFIDENCE = 0.95


def seeded(*words: object) -> np.random.Generator:
    """A generator of its own for each purpose: the same words always draw the same numbers."""
    digest = hashlib.sha256("\0".join(map(str, (SEED, *words))).encode()).digest()
    return np.random.default_rng(list(digest))


def seed_for(*words: object) -> int:
    """A seed below 2**31 for torch, by purpose as in `seeded`."""
    return int(seeded(*words).integers(2**31))
