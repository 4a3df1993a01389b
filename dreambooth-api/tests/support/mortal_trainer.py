"""A trainer in a process of its own that kills itself with SIGKILL at a chosen moment."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection

from tiny_training import RecordingChannel

from enlight.dreambooth_api.requests import TrainerConfig, TrainingProgress
from enlight.dreambooth_api.trainer import main


@dataclass(frozen=True)
class Death:
    """When to die."""

    step: int | None = None
    """When this update is told; needs progress at each update."""
    event: str = ""
    """When Python's audit hooks tell this event ..."""
    path_holds: tuple[str, ...] = ()
    """... of a path with all of these in it."""


def train(config: TrainerConfig, death: Death, connection: Connection) -> None:
    """Run the job; its result goes through ``connection``, unless death comes first."""

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == death.event and _holds(arguments, death.path_holds):
            os.kill(os.getpid(), signal.SIGKILL)

    def on_progress(progress: TrainingProgress) -> None:
        if progress.phase == "training" and progress.step == death.step:
            os.kill(os.getpid(), signal.SIGKILL)

    if death.event:
        sys.addaudithook(audit)
    channel = RecordingChannel(on_progress)
    main(channel, config)
    connection.send(channel.results[0])


def _holds(arguments: tuple[object, ...], pieces: tuple[str, ...]) -> bool:
    return any(all(piece in str(argument) for piece in pieces) for argument in arguments)
