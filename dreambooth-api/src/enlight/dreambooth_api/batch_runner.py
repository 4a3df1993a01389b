"""Runs one batch on the device: weights, embeddings, denoising, decoding; in parts when memory is short."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from enlight.dreambooth_api.admission import version_name
from enlight.dreambooth_api.batching import BatchKey
from enlight.dreambooth_api.fine_tune import FineTune, read_fine_tune
from enlight.dreambooth_api.generation import Generation, Row
from enlight.dreambooth_api.model_cache import CachedModel
from enlight.dreambooth_api.prefetch import Prefetcher
from enlight.dreambooth_api.pure.inference import Conditioning, SamplingBase, StepControl
from enlight.dreambooth_api.pure.starts import InitImages
from enlight.dreambooth_api.requests import Base, CacheTier
from enlight.dreambooth_api.resident_bases import ResidentBase, ResidentBases
from enlight.dreambooth_api.text_embeddings import TextEmbeddings
from enlight.dreambooth_api.weight_tiers import WeightTiers
from enlight.servicekit.errors import OutOfGpuMemory
from enlight.servicekit.tracing import Stage
from enlight.torchkit.gpu_errors import is_out_of_memory

DECODE_PIXELS = 4 * 768 * 768
"""Pixels that the VAE decodes at once: its memory grows with them, its speed does not beyond this."""

STOP_TIMEOUT_S = 10.0


class Sampler(Protocol):
    """Makes pictures (B, H, W, 3) uint8; ``pure.inference.sample_conditioned``."""

    def __call__(
        self,
        base: SamplingBase,
        conditioning: Conditioning,
        *,
        seeds: Sequence[int],
        steps: int,
        width_px: int,
        height_px: int,
        init_images: InitImages | None,
        on_step: StepControl | None,
        decode_images: int,
    ) -> torch.Tensor:
        """As ``pure.inference.sample_conditioned``."""
        ...


class BatchOwner(Protocol):
    """Who a batch runs for."""

    def wanted(self, rows: list[Row]) -> list[Row]:
        """Those rows whose pictures somebody still waits for."""
        ...

    def stepped(self, rows: list[Row], step: int, steps: int) -> None:
        """A denoising step of these rows is done."""
        ...

    def finished(self, rows: list[Row], pictures: NDArray[np.uint8], batch_images: int) -> None:
        """The pictures (B, H, W, 3) of these rows are made, in a batch that began with ``batch_images``."""
        ...

    def failed(self, rows: list[Row], error: Exception) -> None:
        """These rows cannot be made."""
        ...


class BatchRunner:
    """Owns the device: bases, tiers of fine-tuned weights, embeddings. For one thread.

    Args:
        device: Where everything runs.
        bases: Loads bases.
        tiers: Keeps fine-tuned weights.
        sampler: Denoises and decodes; an argument, so that a test can make it fail.
    """

    def __init__(self, device: torch.device, *, bases: ResidentBases, tiers: WeightTiers, sampler: Sampler) -> None:
        self.out_of_memory_count = 0
        """How often memory was short."""
        self.resident: ResidentBase | None = None
        """The base that ran last."""
        self._device = device
        self._bases = bases
        self._tiers = tiers
        self._sampler = sampler
        self._embeddings = TextEmbeddings()
        self._prefetcher = Prefetcher()

    @property
    def prefetching(self) -> bool:
        """Whether weights are being read beside the batches."""
        return self._prefetcher.running

    def prefetch(self, cached: CachedModel) -> None:
        """Begins to read the weights of a model that will be needed soon."""
        version = version_name(cached)
        in_buffers = self.resident is not None and self.resident.buffers.resident == version
        if not in_buffers and not self._tiers.holds(version):
            self._prefetcher.want(version, self._reader(cached))

    def stop(self) -> None:
        """Waits for what runs beside the batches. To be called before the process ends."""
        self._prefetcher.stop(STOP_TIMEOUT_S)

    def run(self, key: BatchKey, rows: list[Row], owner: BatchOwner) -> None:
        """Makes the pictures of ``rows``, all of ``key``; reports to ``owner`` as it goes.

        When memory is short the caches are freed and the batch is halved, down to one picture, which is tried
        twice before it fails with OutOfGpuMemory. The pictures do not depend on how the batch is cut.

        Raises:
            ServiceError: the base or the model cannot be used; rows that were not reported yet are not made.
            Exception: anything unforeseen, likewise.
        """
        parts = [rows]
        tried_alone: set[int] = set()
        while parts:
            part = owner.wanted(parts.pop(0))
            if not part or self._attempt(key, part, owner):
                continue
            self.out_of_memory_count += 1
            self._free_memory()
            if len(part) > 1:
                half = len(part) // 2
                parts[:0] = [part[:half], part[half:]]
            elif id(part[0]) not in tried_alone:
                tried_alone.add(id(part[0]))
                parts.insert(0, part)
            else:
                size = f"{key.width_px} x {key.height_px} px"
                owner.failed(part, OutOfGpuMemory(f"A picture of {size} does not fit into memory now."))

    def _attempt(self, key: BatchKey, rows: list[Row], owner: BatchOwner) -> bool:
        """False when memory was short; then nothing of ``rows`` was reported as finished."""
        try:
            remaining, pictures = self._sample(key, rows, owner)
        except RuntimeError as error:
            if is_out_of_memory(error):
                return False  # leaving the handler frees what the trace holds on to
            raise
        if remaining:
            owner.finished(remaining, pictures, len(rows))
        return True

    @torch.inference_mode()
    def _sample(self, key: BatchKey, rows: list[Row], owner: BatchOwner) -> tuple[list[Row], NDArray[np.uint8]]:
        admitted = rows[0].generation.admitted
        assert admitted is not None
        began_s = time.monotonic()
        resident, tier = self._switch(admitted.base, admitted.cached)
        loaded_s = denoised_s = time.monotonic()
        for generation in {id(row.generation): row.generation for row in rows}.values():
            generation.start(tier, resident.scheduler)
        requests = [row.generation.request for row in rows]
        conditioning = Conditioning(
            embeddings=self._embeddings.encode(resident, [request.prompt for request in requests]),
            negative_embeddings=(
                self._embeddings.encode(resident, [request.negative_prompt for request in requests])
                if key.guided
                else None
            ),
            guidance_scales=tuple(request.guidance_scale for request in requests),
        )
        pace = _Pace(self._device)
        remaining = rows

        def on_step(step: int, steps: int) -> list[int] | None:
            nonlocal remaining, denoised_s
            pace.step()
            denoised_s = time.monotonic()
            wanted = owner.wanted(remaining)
            kept = [index for index, row in enumerate(remaining) if row in wanted]
            unchanged = len(kept) == len(remaining)
            remaining = [remaining[index] for index in kept]
            owner.stepped(remaining, step, steps)
            return None if unchanged else kept

        pictures = self._sampler(
            resident.pipeline,
            conditioning,
            seeds=[row.seed for row in rows],
            steps=key.steps,
            width_px=key.width_px,
            height_px=key.height_px,
            init_images=_init_images(key, rows),
            on_step=on_step,
            decode_images=max(1, DECODE_PIXELS // (key.width_px * key.height_px)),
        )
        made = pictures.cpu().numpy()
        for generation in {id(row.generation): row.generation for row in remaining}.values():
            # On a GPU the last step or two are computed while the decoding is being prepared.
            generation.add_batch(
                Stage("load weights", began_s, loaded_s),
                Stage("denoise", loaded_s, denoised_s),
                Stage("decode", denoised_s, time.monotonic()),
            )
        return remaining, made

    def _switch(self, base: Base, cached: CachedModel | None) -> tuple[ResidentBase, CacheTier]:
        """The base with the model's weights in its buffers, and where they were."""
        loaded = base.name in self._bases.names
        if not loaded:
            self.resident = None  # its memory may be needed for the new one
        self.resident = resident = self._bases.get(base)
        if cached is not None:
            read = self._reader(cached, prefetched=True)
            tier = self._tiers.switch(resident.buffers, version_name(cached), read)
            return resident, tier or cached.source
        if resident.buffers.resident is None:
            return resident, "resident" if loaded else "disk"
        resident.buffers.restore_base()
        return resident, "host"

    def _reader(self, cached: CachedModel, *, prefetched: bool = False) -> Callable[[], FineTune]:
        def read() -> FineTune:
            taken = self._prefetcher.take(version_name(cached)) if prefetched else None
            return taken or read_fine_tune(cached.folder, cached.manifest, device=self._device)

        return read

    def _free_memory(self) -> None:
        self._tiers.gpu.clear()
        self._embeddings.clear()
        self._bases.keep_only_newest()
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _init_images(key: BatchKey, rows: list[Row]) -> InitImages | None:
    """What the batch begins from; None: noise. Rows of one request share their picture."""
    if key.begins_from == "noise":
        return None
    tensors = {row.generation: _tensors(row.generation) for row in rows}
    rgb, repaint = zip(*(tensors[row.generation] for row in rows), strict=True)
    return InitImages(rgb, repaint if key.begins_from == "masked image" else None, key.first_step)


def _tensors(generation: Generation) -> tuple[torch.Tensor, torch.Tensor | None]:
    admitted = generation.admitted
    assert admitted is not None
    assert admitted.init_image is not None
    repaint = admitted.init_image.repaint
    # A copy, for torch warns of pixels that must not be written to.
    rgb = torch.from_numpy(admitted.init_image.rgb.copy())
    return rgb, None if repaint is None else torch.from_numpy(repaint)


class _Pace:
    """Lets the CPU run one step ahead of the GPU and no further, so that cancelling takes effect at once."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._last: torch.cuda.Event | None = None

    def step(self) -> None:
        if self._on_gpu:
            last, self._last = self._last, torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._last.record()
            if last is not None:
                last.synchronize()
