"""Where a training stands, in words and as one share of a bar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Training = Mapping[str, Any]

STATES = {
    "queued": "Waiting",
    "running": "Learning",
    "succeeded": "Ready",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
ENDED = frozenset({"succeeded", "failed", "cancelled"})
_PHASES = {
    "loading": "Getting ready",
    "photos": "Looking at your photos",
    "class_images": "Drawing pictures to compare with",
    "training": "Learning",
    "saving": "Saving what it learnt",
    "publishing": "Putting the model in its place",
}
_REMEDIES = {
    "out_of_gpu_memory": "It did not fit into the machine's memory. Start it again with a smaller picture size, "
    "or with another way to learn.",
    "storage_full": "The machine has no room left. Whoever runs it can make some; then try again.",
    "worker_lost": "The machines that worked on it went away. Trying again usually helps.",
}
_ANY_REMEDY = "Try again; if it fails once more, start a new one with other photos or settings."


@dataclass(frozen=True)
class Standing:
    """What the page says about a training that has not ended, or has."""

    heading: str
    line: str
    share: float | None
    """Of the bar, 0 to 1; None: it cannot be told."""
    spoken: str
    """For screen readers: changes seldom."""
    title: str
    """Of the window."""


def standing(training: Training) -> Standing:
    """The words for ``training`` (``GET /v1/trainings/<id>``)."""
    name, state = training["model_id"], training["state"]
    if state == "queued":
        return _queued(name, training["position"])
    if state == "running":
        return _running(training)
    heading = {
        "succeeded": f"{name} is ready",
        "failed": f"{name} could not be made",
        "cancelled": f"{name} was cancelled",
    }[state]
    share = 1.0 if state == "succeeded" else progress_share(training)
    return Standing(heading, "", share, f"{heading}.", heading)


def progress_share(training: Training) -> float | None:
    """How much of the learning is done; None: not begun, or not told."""
    progress = training["progress"]
    if training["state"] == "succeeded":
        return 1.0
    if progress is None or progress["phase"] in ("loading", "photos", "class_images"):
        return None
    if progress["phase"] == "training":
        return float(progress["step"] / max(1, progress["steps"]))
    return 1.0


def what_to_do(training: Training) -> str:
    """What helps after a failure."""
    code = (training["error"] or {}).get("code", "")
    return _REMEDIES.get(code, _ANY_REMEDY)


def _queued(name: str, position: int | None) -> Standing:
    if not position:
        line = "Next in line: it starts as soon as a machine is free."
    else:
        line = f"{position} training{'s are' if position > 1 else ' is'} before this one."
    return Standing(f"{name} waits for its turn", line, None, line, f"{name} waits")


def _running(training: Training) -> Standing:
    name, progress = training["model_id"], training["progress"]
    if training["cancel_requested"]:
        return Standing(f"{name} is being cancelled", "It stops within a moment.", None, "Cancelling.", f"{name} stops")
    heading = f"{name} is being made"
    if progress is None:
        return Standing(heading, "Getting ready …", None, "Getting ready.", heading)
    phase, share = _PHASES.get(progress["phase"], "Working"), progress_share(training)
    line = f"{phase} …"
    if progress["phase"] in ("photos", "class_images") and progress["steps"]:
        line = f"{phase}: {progress['step']} of {progress['steps']}"
    if progress["phase"] != "training" or share is None:
        return Standing(heading, line, share, f"{phase}.", heading)
    quarter = int(share * 4) * 25
    return Standing(
        heading,
        f"{phase}: step {progress['step']} of {progress['steps']}",
        share,
        f"{phase}: {quarter} percent done." if quarter else f"{phase}.",
        f"{share:.0%} · {name}",
    )
