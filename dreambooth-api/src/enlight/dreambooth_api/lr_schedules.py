"""Learning rate schedules by diffusers' names. No torch: the HTTP process checks names against them.

A schedule is a function of the update's number alone, so a resumed training has no schedule state to restore.
"""

from __future__ import annotations

import math

LR_SCHEDULERS: tuple[str, ...] = (
    "constant",
    "constant_with_warmup",
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
)
"""Every schedule of ``diffusers.optimization.get_scheduler`` that needs no further arguments;
``piecewise_constant`` needs a rule that the wire contract has no field for."""

POLYNOMIAL_END_LR = 1e-7
"""Where ``polynomial`` ends, and what its learning rate has to be above."""


def learning_rate_at(step: int, *, name: str, base_lr: float, warmup_steps: int, steps: int) -> float:
    """Learning rate of update number ``step`` (from 0) of ``steps``.

    All but ``constant`` rise linearly from 0 over ``warmup_steps`` updates first.

    Raises:
        ValueError: unknown name.

    Source: diffusers 0.42, ``optimization.py``, with its defaults (one cycle, power 1).
    """
    if name == "constant":
        return base_lr
    if name not in LR_SCHEDULERS:
        raise ValueError(f"no such learning rate schedule: {name!r}")
    if step < warmup_steps:
        return base_lr * (step / max(1, warmup_steps))
    progress = min(1.0, (step - warmup_steps) / max(1, steps - warmup_steps))
    if name == "constant_with_warmup":
        return base_lr
    if name == "linear":
        return base_lr * (1.0 - progress)
    if name == "polynomial":
        return (base_lr - POLYNOMIAL_END_LR) * (1.0 - progress) + POLYNOMIAL_END_LR
    # One half wave; cosine_with_restarts with diffusers' default of one cycle is the same curve.
    return base_lr * max(0.0, 0.5 * (1.0 + math.cos(math.pi * progress)))
