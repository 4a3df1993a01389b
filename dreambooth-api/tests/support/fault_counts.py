"""How often the fault campaigns of models and cache are run: a short version always, the full counts marked long."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FaultCounts:
    """Counts of one run of all campaigns."""

    kills: int
    """Processes killed at a random line of code, or at a random moment."""
    damages: int
    """Bits flipped and files truncated, over every kind of file."""
    reader_operations: int
    """Leases by many readers of a cache that is too small for all."""
    examples: int
    """Random sequences of operations."""
    steps: int
    """Operations per sequence."""
    herd_rounds: int
    """Rounds in which many processes ask for one model at once."""


SHORT = FaultCounts(kills=40, damages=60, reader_operations=300, examples=20, steps=40, herd_rounds=1)
LONG = FaultCounts(kills=1_000, damages=1_000, reader_operations=10_000, examples=2_000, steps=40, herd_rounds=300)
