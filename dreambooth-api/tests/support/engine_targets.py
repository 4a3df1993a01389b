"""What an engine's child process runs in tests: the real engine, with a sampler that some seeds make fail."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from enlight.dreambooth_api import engine
from enlight.dreambooth_api.pure.inference import sample_conditioned
from enlight.dreambooth_api.requests import EngineConfig
from enlight.servicekit.child import ChildChannel

MEMORY_FOR_ONE = 1_000_000
"""Seeds from here on: two pictures at once are too many."""
NO_MEMORY = 2_000_000
"""Seeds from here on: one is too many."""
DEVICE_FAULT = 3_000_000
BUG = 4_000_000
SLOW = 5_000_000
"""Seeds from here on: each batch takes a second more."""


def main(channel: ChildChannel, config: EngineConfig) -> None:
    """The engine."""
    engine.main(channel, config, sampler=sampler)


def sampler(base: Any, conditioning: Any, *, seeds: Sequence[int], **arguments: Any) -> torch.Tensor:
    """The real sampler, once the seeds allow it."""
    kind = max(seeds) // MEMORY_FOR_ONE * MEMORY_FOR_ONE
    if kind == NO_MEMORY or (kind == MEMORY_FOR_ONE and len(seeds) > 1):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    if kind == DEVICE_FAULT:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
    if kind == BUG:
        raise ZeroDivisionError("a bug")
    if kind == SLOW:
        time.sleep(1.0)
    return sample_conditioned(base, conditioning, seeds=seeds, **arguments)
