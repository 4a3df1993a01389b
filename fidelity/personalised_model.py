"""A base model in memory that is trained on photos by the service's own trainer and then makes pictures.

The training is what the trainer's child process runs, publishing included; the result comes back through the model
cache and the weight buffers, as in the service's engine. Everything computes in fp32, on a GPU too, so that numbers
from different machines may stand in one table.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from protocol import DENOISING_STEPS, GUIDANCE_SCALE, PICTURE_SIZE_PX, SAMPLE_BATCH

from enlight.dreambooth_api import trainer
from enlight.dreambooth_api.fine_tune import FineTune, read_fine_tune
from enlight.dreambooth_api.model_cache import ModelCache
from enlight.dreambooth_api.model_store import ModelStore
from enlight.dreambooth_api.pipelines import StableDiffusion
from enlight.dreambooth_api.pure.inference import sample
from enlight.dreambooth_api.requests import Base, BucketConfig, TrainerConfig, TrainingOutcome, TrainingRequest
from enlight.dreambooth_api.resident_bases import ResidentBase, ResidentBases
from enlight.servicekit.object_store import open_store


class PatientChannel:
    """A trainer's channel without a parent: nobody watches and nobody cancels."""

    closing = False

    def __init__(self) -> None:
        self.results: list[object] = []

    def cancelled(self, task_id: int) -> bool:
        """Never."""
        return False

    def progress(self, task_id: int, payload: object) -> None:
        """Nobody asks how far it is."""

    def result(self, task_id: int, payload: object) -> None:
        """Keeps the answer."""
        self.results.append(payload)


def trainer_config(base: Base, request: TrainingRequest, folder: Path, device: str) -> TrainerConfig:
    """A job that works in and publishes below `folder`."""
    return TrainerConfig(
        device=device,
        base=base,
        store=BucketConfig(bucket_url=f"file://{folder / 'bucket'}", timeout_s=60, retry_total_s=60),
        request=request,
        job_folder=folder / "job",
        checkpoint_every_steps=request.max_training_steps,
        keep_checkpoints=1,
        mixed_precision="no",
        gradient_checkpointing=False,
        progress_every_s=60.0,
        cpu_threads=1,
    )


def train(
    base: Base, request: TrainingRequest, photos: tuple[Path, ...], device: str
) -> tuple[FineTune, TrainingOutcome]:
    """Trains, publishes into a directory that is gone afterwards, and reads what was published.

    Args:
        base: Which base, and where.
        request: The job, without photos.
        photos: Image files of the subject.
        device: As the service's device setting.

    Raises: what the trainer raises.
    """
    with tempfile.TemporaryDirectory(prefix="enlight-fidelity-") as folder:
        config = trainer_config(base, dataclasses.replace(request, photos=photos), Path(folder), device)
        channel = PatientChannel()
        trainer.main(channel, config)
        (outcome,) = channel.results
        assert isinstance(outcome, TrainingOutcome)
        torch.backends.cudnn.benchmark = False  # the trainer turned it on; sampling has to give the same twice
        return _published(config, Path(folder) / "cache"), outcome


def _published(config: TrainerConfig, cache_folder: Path) -> FineTune:
    store = config.store
    objects = open_store(store.bucket_url, timeout_s=store.timeout_s, retry_total_s=store.retry_total_s)
    cache = ModelCache(cache_folder, ModelStore(objects), quota_bytes=1 << 32, alias_ttl_s=1, fetch_timeout_s=120)
    with cache.lease(config.request.model_id) as cached:
        # As for a CPU: the stored precision, in ordinary memory.
        return read_fine_tune(cached.folder, cached.manifest, device=torch.device("cpu"))


class PictureMaker:
    """A base, plain or with one trained model's weights in its place.

    Args:
        base: Which base, and where.
        device: Where it computes.
    """

    def __init__(self, base: Base, device: torch.device) -> None:
        self._resident: ResidentBase = ResidentBases(device, 1, load=_load_in_full_precision).get(base)

    @property
    def pipeline(self) -> StableDiffusion:
        """The networks, with the weights in use."""
        return self._resident.pipeline

    @contextmanager
    def using(self, fine_tune: FineTune | None) -> Iterator[None]:
        """Makes pictures of this trained model, or of the plain base, until the block ends."""
        try:
            if fine_tune is not None:
                self._resident.buffers.switch_to(fine_tune)
            yield
        finally:
            self._resident.buffers.restore_base()

    def pictures(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """One picture per prompt and seed, (B, PICTURE_SIZE_PX, PICTURE_SIZE_PX, 3) uint8."""
        parts = [
            sample(
                self.pipeline,
                prompts[first : first + SAMPLE_BATCH],
                seeds=seeds[first : first + SAMPLE_BATCH],
                steps=DENOISING_STEPS,
                guidance_scales=GUIDANCE_SCALE,
                width_px=PICTURE_SIZE_PX,
                height_px=PICTURE_SIZE_PX,
            )
            .cpu()
            .numpy()
            for first in range(0, len(prompts), SAMPLE_BATCH)
        ]
        return np.concatenate(parts)


def _load_in_full_precision(folder: Path, *, device: torch.device, weights_dtype: torch.dtype) -> StableDiffusion:
    """As `StableDiffusion.load`, but fp32 where the engine would take half precision."""
    return StableDiffusion.load(folder, device=device, weights_dtype=torch.float32)
