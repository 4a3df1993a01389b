"""What is being made now, and what was: for whoever closed the tab."""

from __future__ import annotations

from typing import Any

from enlight.dashboard.main_api.client import current_api
from enlight.dashboard.pages.make.training_words import ENDED, STATES, progress_share

SHOWN = 12


def recent_trainings() -> dict[str, Any]:
    """The newest trainings: ``running`` and ``ended``, each with its state in words and its newest sample."""
    cards = [_card(training) for training in current_api().get("/v1/trainings", {"limit": SHOWN})["trainings"]]
    return {
        "running": [card for card in cards if card["state"] not in ENDED],
        "ended": [card for card in cards if card["state"] in ENDED],
    }


def _card(training: dict[str, Any]) -> dict[str, Any]:
    samples = training["samples"]
    return {
        **training,
        "state_in_words": STATES[training["state"]],
        "share": progress_share(training),
        "sample_step": samples[-1]["step"] if samples else None,
    }
