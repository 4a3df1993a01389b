"""Small DreamBooth jobs for tests: photos, requests, configurations, and a channel that remembers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from training_samples import training_request

from enlight.dreambooth_api.pure.training import MicroBatch, Objective, StepFunction, TrainingState
from enlight.dreambooth_api.requests import (
    Base,
    StoreConfig,
    TrainerConfig,
    TrainerRemark,
    TrainingProgress,
    TrainingRequest,
    TrainingSample,
)
from enlight.dreambooth_api.trainer import MakeStep, make_eager_step

PHOTO_SIZE = (192, 128)


def write_photos(folder: Path, count: int) -> tuple[Path, ...]:
    """``count`` different smooth colour pictures, PNG files without a suffix, as the service has them."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(count):
        width, height = PHOTO_SIZE
        x, y = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
        waves = [np.sin((index + 2) * x * 3 + channel) * np.cos((index + 1) * y * 4) for channel in range(3)]
        rgb = np.uint8(127.5 + 120 * np.stack(waves, axis=-1))
        path = folder / f"{index:02d}"
        Image.fromarray(rgb).save(path, format="png")
        paths.append(path)
    return tuple(paths)


def make_request(photos: tuple[Path, ...], **changes: Any) -> TrainingRequest:
    """A short full training with a learning rate that shows."""
    request = training_request(
        model_id="tiny",
        base_name="tests/tiny",
        instance_prompt="a photo of sks dog",
        photos=photos,
        max_training_steps=3,
        learning_rate=1e-3,
        seed=7,
    )
    if changes.get("prior_preservation"):
        changes = {"class_prompt": "a photo of dog", "num_class_images": 2, **changes}
    return replace(request, **changes)


def make_config(folder: Path, base: Base, request: TrainingRequest, **changes: Any) -> TrainerConfig:
    """A job on the CPU that publishes into ``folder/bucket`` and works in ``folder/job``."""
    config = TrainerConfig(
        device="cpu",
        base=base,
        store=StoreConfig(
            bucket_url=f"file://{folder / 'bucket'}",
            timeout_s=5,
            retry_total_s=10,
            cache_folder=folder / "cache",
            cache_quota_bytes=1 << 30,
            alias_ttl_s=1,
            fetch_timeout_s=30,
        ),
        request=request,
        job_folder=folder / "job",
        checkpoint_every_steps=100,
        keep_checkpoints=1,
        mixed_precision="auto",
        gradient_checkpointing=False,
        progress_every_s=1000.0,
        cpu_threads=1,
    )
    return replace(config, **changes)


class RecordingChannel:
    """A trainer's channel without a parent: keeps what was sent, and lets a test act at each message."""

    def __init__(self, on_progress: Callable[[TrainingProgress], None] | None = None) -> None:
        self.closing = False
        self.cancel = False
        self.sent: list[TrainingProgress] = []
        self.samples: list[TrainingSample] = []
        self.remarks: list[TrainerRemark] = []
        self.results: list[object] = []
        self._on_progress = on_progress

    def cancelled(self, task_id: int) -> bool:
        assert task_id == 0
        return self.cancel

    def progress(self, task_id: int, payload: object) -> None:
        assert task_id == 0
        if isinstance(payload, TrainingSample):
            self.samples.append(payload)
        elif isinstance(payload, TrainerRemark):
            self.remarks.append(payload)
        else:
            assert isinstance(payload, TrainingProgress)
            self.sent.append(payload)
            if self._on_progress:
                self._on_progress(payload)

    def result(self, task_id: int, payload: object) -> None:
        assert task_id == 0
        self.results.append(payload)


Act = Callable[[TrainingState], None]


def acting_step(act: Act, *, after: bool = False) -> MakeStep:
    """The real step, with something of the test's before or after each update."""

    def make_step(objective: Objective, max_grad_norm: float) -> StepFunction:
        real = make_eager_step(objective, max_grad_norm)

        def step(state: TrainingState, batches: Sequence[MicroBatch], learning_rate: float) -> torch.Tensor:
            if not after:
                act(state)
            loss = real(state, batches, learning_rate)
            if after:
                act(state)
            return loss

        return step

    return make_step
