"""How the folder of a checkpoint is called. No torch: the worker, which mirrors checkpoints, has none."""

from __future__ import annotations

import re
from pathlib import Path

_NAME = re.compile(r"step-(\d{8})")


def checkpoint_name(step: int) -> str:
    """Name of the folder that holds the state after ``step`` updates; names sort as the steps do."""
    return f"step-{step:08d}"


def checkpoint_steps(folder: Path) -> list[int]:
    """The steps of the checkpoints in ``folder``, whole or not, newest first; none where there is no folder."""
    matches = [_NAME.fullmatch(path.name) for path in folder.glob("step-*")]
    return sorted((int(match[1]) for match in matches if match), reverse=True)
