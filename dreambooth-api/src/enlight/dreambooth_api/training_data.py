"""The data of a training, made once: latents of photos and class images, embeddings of the prompts.

The result is kept beside the checkpoints: a resumed job has the same class images without making them again.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from enlight.dreambooth_api.photos import load_photo, rgb_to_pixels
from enlight.dreambooth_api.pipelines import BasePipeline
from enlight.dreambooth_api.pure.inference import sample
from enlight.dreambooth_api.pure.training import TrainingData, autocast
from enlight.dreambooth_api.requests import TrainingRequest
from enlight.dreambooth_api.sealed_folders import BrokenSealError, check_seal, sealed_folder

_log = logging.getLogger(__name__)

CLASS_GUIDANCE_SCALE = 7.5
CLASS_SEED_OFFSET = 1_000_000
"""Class image i is seeded ``seed + offset + i``, away from the seeds tried with the finished model."""
CLASS_BATCH_IMAGES = 4

_FILE = "data.safetensors"

ReportPictures = Callable[[Literal["photos", "class_images"], int, int], None]
"""(phase, pictures done, pictures) of the phases ``photos`` and ``class_images``."""


@dataclass(frozen=True)
class PreparedData:
    """All of a job's data, on the CPU."""

    latent_mean: torch.Tensor
    """(N + M, C, h, w) float32, photos first, scaled by the base's latent factor."""
    latent_std: torch.Tensor
    photo_count: int
    embeddings: torch.Tensor
    """(P, L, D) of ``prompts``, by the untrained text encoder."""

    def to_training_data(self, device: torch.device) -> TrainingData:
        """The latents on ``device``."""
        return TrainingData(self.latent_mean.to(device), self.latent_std.to(device), self.photo_count)


def prompts(request: TrainingRequest) -> list[str]:
    """The prompts that a job trains with, in the order of the rows of a batch."""
    return [request.instance_prompt, *([request.class_prompt] if request.prior_preservation else [])]


def prepare_data(
    pipeline: BasePipeline,
    request: TrainingRequest,
    *,
    class_image_steps: int,
    autocast_dtype: torch.dtype | None,
    report: ReportPictures,
    check: Callable[[], None],
) -> PreparedData:
    """Encode the photos and the prompts; with prior preservation make and encode the class images.

    ``autocast_dtype``: precision in which the class images are made; None: that of the weights.
    ``check`` is called often and may raise to stop.

    Raises: what ``servicekit.images.decode_image`` raises for a photo that cannot be read.
    """
    pictures = _Latents(pipeline)
    for index, path in enumerate(request.photos):
        check()
        pictures.add(load_photo(path, request.resolution_px, field=f"IMAGE_LIST[{index}]"))
        report("photos", index + 1, len(request.photos))
    if request.prior_preservation:
        for rgb in class_images(
            pipeline,
            request,
            steps=class_image_steps,
            autocast_dtype=autocast_dtype,
            report=report,
            check=check,
        ):
            pictures.add(rgb_to_pixels(rgb))
    mean, std = pictures.stacked()
    embeddings = pipeline.encode_prompts(prompts(request)).float().cpu()
    return PreparedData(mean, std, len(request.photos), embeddings)


def class_images(
    pipeline: BasePipeline,
    request: TrainingRequest,
    *,
    steps: int,
    autocast_dtype: torch.dtype | None,
    report: ReportPictures,
    check: Callable[[], None],
) -> Iterator[torch.Tensor]:
    """Pictures (B, H, W, 3) uint8 of the class, made by the base before it is trained, a few at a time."""
    total = request.num_class_images

    def on_step(done: int, of: int) -> None:
        check()
        report("class_images", first + (len(seeds) * done) // of, total)

    for first in range(0, total, CLASS_BATCH_IMAGES):
        numbers = range(first, min(first + CLASS_BATCH_IMAGES, total))
        seeds = [request.seed + CLASS_SEED_OFFSET + number for number in numbers]
        with autocast(pipeline.device, autocast_dtype):
            rgb = sample(
                pipeline,
                [request.class_prompt] * len(seeds),
                seeds=seeds,
                steps=steps,
                guidance_scales=CLASS_GUIDANCE_SCALE,
                width_px=request.resolution_px,
                height_px=request.resolution_px,
                on_step=on_step,
            )
        yield rgb


def save_data(data: PreparedData, folder: Path, fingerprint: str) -> None:
    """Keep ``data`` as the sealed folder ``folder``. Raises: OSError."""
    tensors = {"latent_mean": data.latent_mean, "latent_std": data.latent_std, "embeddings": data.embeddings}
    with sealed_folder(folder) as temporary:
        metadata = {"fingerprint": fingerprint, "photo_count": str(data.photo_count)}
        save_file(tensors, temporary / _FILE, metadata)


def load_data(folder: Path, fingerprint: str) -> PreparedData | None:
    """What ``save_data`` kept; None, and nothing left there, when it is not whole or of another job."""
    if not folder.exists():
        return None
    try:
        check_seal(folder)
        with safe_open(folder / _FILE, "pt") as file:
            metadata = file.metadata()
        if metadata["fingerprint"] != fingerprint:
            raise ValueError("it belongs to another job")
        return PreparedData(photo_count=int(metadata["photo_count"]), **load_file(folder / _FILE))
    except (BrokenSealError, SafetensorError, OSError, ValueError, KeyError) as error:
        _log.warning("prepared data are not used: %s", error)
        shutil.rmtree(folder, ignore_errors=True)
        return None


class _Latents:
    """Collects latent distributions, scaled as the network wants them, on the CPU."""

    def __init__(self, pipeline: BasePipeline) -> None:
        self._pipeline = pipeline
        self._means: list[torch.Tensor] = []
        self._stds: list[torch.Tensor] = []

    def add(self, pixels: torch.Tensor) -> None:
        """Encode pixels (B, 3, H, W), one picture at a time, which bounds the memory."""
        for picture in torch.split(pixels, 1):
            mean, std = self._pipeline.encode_photos(picture)
            self._means.append((mean.float() * self._pipeline.latent_factor).cpu())
            self._stds.append((std.float() * self._pipeline.latent_factor).cpu())

    def stacked(self) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat(self._means).contiguous(), torch.cat(self._stds).contiguous()
