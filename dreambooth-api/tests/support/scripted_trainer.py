"""A trainer without torch that does what the job's prompt says, for tests of the worker around it."""

from __future__ import annotations

import os
import signal
import time

from enlight.dreambooth_api.model_store import ModelDescription, ModelStore
from enlight.dreambooth_api.requests import TrainerConfig, TrainingOutcome, TrainingProgress, TrainingSample
from enlight.servicekit.child import ChildChannel
from enlight.servicekit.errors import Cancelled, OutOfGpuMemory, WorkerUnavailable
from enlight.servicekit.object_store import open_store


def main(channel: ChildChannel, config: TrainerConfig) -> None:
    """Follows the script in ``instance_prompt``: words, in order; ``publish`` is the last."""
    channel.progress(0, TrainingProgress("training", 1, 2, 0, 0.5, 1e-4, None, None, None))
    for word in config.request.instance_prompt.split():
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        elif word == "fill-memory":
            raise OutOfGpuMemory("It does not fit.")
        elif word == "sample":
            channel.progress(0, TrainingSample(1, b"a picture", 0.1))
        elif word == "wait":
            _wait(channel)
        elif word == "wait-for-go":
            while not (config.job_folder.parent / "go").exists():
                time.sleep(0.01)
        elif word == "publish":
            channel.result(0, _publish(config))
        elif word == "publish-and-pause-the-worker":
            outcome = _publish(config)
            os.kill(os.getppid(), signal.SIGSTOP)
            channel.result(0, outcome)


def _wait(channel: ChildChannel) -> None:
    while not channel.cancelled(0):
        if channel.closing:
            raise WorkerUnavailable("The service is stopping.")
        time.sleep(0.01)
    raise Cancelled


def _publish(config: TrainerConfig) -> TrainingOutcome:
    folder = config.job_folder / "model"
    folder.mkdir()
    (folder / "weights.bin").write_bytes(b"weights of " + str(config.version).encode())
    request = config.request
    store = ModelStore(open_store(config.store.bucket_url, timeout_s=5, retry_total_s=5))
    manifest = store.publish(
        request.model_id,
        folder,
        ModelDescription(request.base_name, None, request.kind, request.instance_prompt, {"final_loss": 0.5}),
        version=config.version,
        move_alias=config.move_alias,
    )
    return TrainingOutcome(request.model_id, manifest.version, 2, 0, 0.5, 0.1, 0.2, None, manifest.size_bytes, {})
