"""Fixtures that several modules name."""

from __future__ import annotations

from child_processes import only_new_children

__all__ = ["only_new_children"]
