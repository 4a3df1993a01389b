"""A training's progress as a bar on a terminal, for command lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from enlight.dreambooth_api.requests import TrainingProgress

_NAMES = {
    "loading": "loading the base model",
    "photos": "reading photos",
    "class_images": "making class images",
    "training": "training",
    "saving": "saving",
    "publishing": "publishing",
}


@contextmanager
def progress_bar(console: Console) -> Iterator[Callable[[TrainingProgress], None]]:
    """Gives the function that takes a trainer's messages; the bar is there until the end of the block.

    On a console that is no terminal it prints one line per phase instead.
    """
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task(_NAMES["loading"], total=None, figures="")
        phase = ""

        def show(progress: TrainingProgress) -> None:
            nonlocal phase
            if progress.phase != phase:
                phase = progress.phase
                bar.reset(task, description=_NAMES[phase])
                if not console.is_terminal:
                    console.print(_NAMES[phase])
            bar.update(task, completed=progress.step, total=progress.steps or None, figures=_figures(progress))

        yield show


def _figures(progress: TrainingProgress) -> str:
    figures = []
    if progress.loss is not None:
        figures.append(f"loss {progress.loss:.4f}")
    if progress.learning_rate is not None:
        figures.append(f"LR {progress.learning_rate:.2e}")
    if progress.steps_per_s is not None:
        figures.append(f"{progress.steps_per_s:.1f} steps/s")
    return "  ".join(figures)
