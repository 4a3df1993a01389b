from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from enlight.dreambooth_api.progress_bar import progress_bar
from enlight.dreambooth_api.requests import TrainingProgress


def _messages() -> list[TrainingProgress]:
    def message(phase: str, step: int, steps: int, loss: float | None = None) -> TrainingProgress:
        return TrainingProgress(
            phase=phase,  # type: ignore[arg-type]
            step=step,
            steps=steps,
            resumed_from_step=0,
            loss=loss,
            learning_rate=None if loss is None else 2e-6,
            steps_per_s=None if loss is None else 12.5,
            remaining_s=None,
            peak_memory_bytes=None,
        )

    return [
        message("loading", 0, 400),
        message("photos", 5, 5),
        message("training", 0, 400),
        message("training", 100, 400, loss=0.1234),
        message("training", 400, 400, loss=0.0567),
        message("saving", 400, 400),
    ]


def test_a_terminal_shows_a_bar_with_the_figures() -> None:
    # Given a terminal
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=140)

    # When a training's messages come
    with progress_bar(console) as show:
        for message in _messages()[:-1]:
            show(message)
            time.sleep(0.11)  # the bar is drawn ten times a second

    # Then steps and figures were to be seen
    text = screen.getvalue()
    for piece in ("reading photos", "training", "100/400", "loss 0.1234", "LR 2.00e-06", "12.5 steps/s", "400/400"):
        assert piece in text


def test_a_file_gets_a_line_per_phase() -> None:
    screen = io.StringIO()
    with progress_bar(Console(file=screen, width=140)) as show:
        for message in _messages():
            show(message)
    assert screen.getvalue().splitlines() == ["loading the base model", "reading photos", "training", "saving"]


def test_the_bar_goes_away_when_the_training_fails() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=140)
    with pytest.raises(ZeroDivisionError), progress_bar(console):
        raise ZeroDivisionError
    with progress_bar(console):  # a live display that was left open would refuse a second one
        pass
