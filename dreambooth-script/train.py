"""Teaches a base model the subject of the photos in INPUT/; the trained model goes to OUTPUT/modelids.

It is dreambooth-api's own training queue with one client, so a training that was stopped or killed goes on from its
last checkpoint when the same command is given again.
"""

from __future__ import annotations

import argparse
import base64
import re
import signal
import sys
import threading
from pathlib import Path

from body_options import EPILOG, add_body_options
from pydantic import ValidationError
from rich.console import Console
from workplace import INPUT, OUTPUT, WorkplaceError, base_models, find_photos, read_settings, require_folders

from enlight.dreambooth_api.file_locks import FileLock
from enlight.dreambooth_api.progress_bar import progress_bar
from enlight.dreambooth_api.schemas import TrainingBody
from enlight.dreambooth_api.settings import Settings
from enlight.dreambooth_api.training_jobs import TrainingJob
from enlight.dreambooth_api.training_metrics import TrainingMetrics
from enlight.dreambooth_api.training_queue import TrainingQueue, run_trainer
from enlight.dreambooth_api.training_records import TrainingRecords
from enlight.dreambooth_api.training_requests import CheckedTraining, TrainingChecker
from enlight.servicekit.errors import ServiceError
from enlight.servicekit.http_errors import invalid_field
from enlight.servicekit.metrics import ServiceMetrics
from enlight.servicekit.settings import SettingsError

SIGNAL_CHECK_S = 0.2
STOPPED = 130
"""Exit status of a training that was asked to stop, as a shell's after Ctrl-C."""


def main(arguments: list[str] | None = None) -> int:
    """Trains one model; returns the exit status."""
    parser = argparse.ArgumentParser(prog="train.py", description=__doc__, epilog=EPILOG)
    add_body_options(parser, TrainingBody, without=["photos"])
    options = vars(parser.parse_args(arguments))
    console = Console()
    photos: list[Path] = []
    try:
        require_folders(INPUT, OUTPUT)
        photos = find_photos()
        settings = read_settings()
        checked = _check(options, photos, settings)
        for warning in checked.warnings:
            console.print(_with_names(warning.message, photos), markup=False)
        with _hold_output():
            return _train(checked, settings, console)
    except (WorkplaceError, SettingsError) as error:
        message = str(error)
    except ServiceError as error:
        message = _with_names(error.message, photos)
    print(message, file=sys.stderr)
    return 1


def _check(options: dict[str, object], photos: list[Path], settings: Settings) -> CheckedTraining:
    encoded = [base64.b64encode(photo.read_bytes()).decode() for photo in photos]
    try:
        body = TrainingBody.model_validate({**options, "photos": encoded})
    except ValidationError as error:
        raise invalid_field(error) from error
    return TrainingChecker(settings, base_models(settings)).from_training_body(body)


def _hold_output() -> FileLock:
    """Two trainings at once would take the memory, and the checkpoints of identical ones, from each other."""
    lock = FileLock.try_hold(OUTPUT / ".training.lock")
    if lock is None:
        raise WorkplaceError(f"Another training uses {OUTPUT.absolute()}; wait for its end, or work in another folder.")
    return lock


def _train(checked: CheckedTraining, settings: Settings, console: Console) -> int:
    queue = TrainingQueue(
        settings,
        base_models(settings),
        TrainingRecords(settings.trainings_folder, settings.jobs_folder),
        run=run_trainer(settings, TrainingMetrics(ServiceMetrics(http=False))),
    )
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    queue.start()
    try:
        job = queue.submit(checked.request, checked.photos, detached=False)
        _follow(job, stop, console)
    finally:
        queue.stop()  # a training that runs writes a checkpoint first
    if stop.is_set() and job.outcome is None:
        console.print("Stopped. The same command goes on from the last checkpoint.")
        return STOPPED
    if job.error is not None:
        raise job.error
    assert job.outcome is not None
    if job.outcome.resumed_from_step:
        console.print(f"It went on after step {job.outcome.resumed_from_step}.")
    console.print(
        f"{job.outcome.model_id} is trained: {job.outcome.steps} steps, loss {job.outcome.final_loss:.4f}, version "
        f"{job.outcome.version} in {settings.bucket_config().bucket_url}",
        markup=False,
        soft_wrap=True,
    )
    return 0


def _follow(job: TrainingJob, stop: threading.Event, console: Console) -> None:
    """Shows how far the training is until it ends or is to be stopped."""
    with progress_bar(console) as show:
        for _ in job.events(0, idle_s=SIGNAL_CHECK_S):
            if stop.is_set():
                return
            if job.progress is not None:
                show(job.progress)


def _with_names(message: str, photos: list[Path]) -> str:
    """The service knows photos by their number; here they have names."""
    return re.sub(r"photos\[(\d+)\]", lambda match: str(photos[int(match[1])]), message)


if __name__ == "__main__":
    sys.exit(main())
