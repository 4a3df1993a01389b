"""Where a job can stand."""

from __future__ import annotations

from typing import Literal

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]

EndState = Literal["succeeded", "failed", "cancelled"]

STATES: tuple[State, ...] = ("queued", "running", "succeeded", "failed", "cancelled")

FINAL_STATES: frozenset[State] = frozenset({"succeeded", "failed", "cancelled"})
"""A job in one of these never changes again."""
