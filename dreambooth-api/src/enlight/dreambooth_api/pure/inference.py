"""From prompts and seeds to pictures: the denoising loop with classifier-free guidance, and the decoding.

With the same weights, prompts, seeds, pictures and scheduler the pictures are those of diffusers'
``StableDiffusionPipeline``, ``StableDiffusionImg2ImgPipeline`` and ``StableDiffusionInpaintPipeline`` called with one
CPU generator per image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch

from enlight.dreambooth_api.pure.schedulers import Scheduler, keep_rows, make_scheduler, step_arguments
from enlight.dreambooth_api.pure.starts import EncodingBase, InitImages, start_from_images, start_from_noise

ScalarT = TypeVar("ScalarT", str, float)
StepControl = Callable[[int, int], Sequence[int] | None]
"""Called after each denoising step with (steps done, steps in all). Returns None to go on with every row, or
the rows that go on, as indices into the present batch in ascending order; no index at all stops the loop."""


class SamplingBase(EncodingBase, Protocol):
    """What sampling needs of a base model; ``pipelines.BasePipeline`` has all of it."""

    latent_channels: int

    def encode_prompts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Embeddings (B, L, D) of texts."""
        ...

    def predict(self, latents: torch.Tensor, timesteps: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
        """The network's output (B, C, h, w)."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (B, H, W, 3) uint8 of scaled latents."""
        ...


@dataclass(frozen=True)
class Conditioning:
    """What each row of a batch is steered by."""

    embeddings: torch.Tensor
    """(B, L, D), of the prompts."""
    negative_embeddings: torch.Tensor | None
    """(B, L, D), of the negative prompts; None without guidance."""
    guidance_scales: tuple[float, ...]
    """One per row: all above 1 with negative embeddings, none without."""

    def __post_init__(self) -> None:
        rows, negative = len(self.embeddings), self.negative_embeddings
        if rows == 0 or len(self.guidance_scales) != rows:
            raise ValueError(f"{rows} prompts and {len(self.guidance_scales)} guidance scales")
        if negative is not None and negative.shape != self.embeddings.shape:
            raise ValueError("prompts and negative prompts differ in number")
        if {is_guided(scale) for scale in self.guidance_scales} != {negative is not None}:
            raise ValueError("guided and unguided rows cannot share a batch")

    def rows(self, kept: Sequence[int]) -> Conditioning:
        """The same for some rows only."""
        rows, negative = _row_indices(kept, self.embeddings.device), self.negative_embeddings
        return Conditioning(
            self.embeddings[rows],
            None if negative is None else negative[rows],
            tuple(self.guidance_scales[row] for row in kept),
        )


class _GuidedPrediction:
    """The U-Net with classifier-free guidance, one call over 2B rows: uncond + scale * (cond - uncond)."""

    def __init__(self, base: SamplingBase, conditioning: Conditioning) -> None:
        self._base = base
        self._conditioning = conditioning
        negative = conditioning.negative_embeddings
        self._guided = negative is not None
        self._embeddings = (
            conditioning.embeddings if negative is None else torch.cat([negative, conditioning.embeddings])
        )
        # fp32, so that fp16 predictions are scaled as by a Python number.
        scales = torch.tensor(conditioning.guidance_scales, dtype=torch.float32)
        self._scales = scales.to(base.device).reshape(-1, 1, 1, 1)

    def __call__(
        self,
        scheduler: Scheduler,
        latents: torch.Tensor,
        timestep: torch.Tensor,
        timestep_on_device: torch.Tensor,
    ) -> torch.Tensor:
        """Guided output (B, C, h, w) for noisy latents (B, C, h, w)."""
        unet_latents = torch.cat([latents, latents]) if self._guided else latents
        unet_latents = scheduler.scale_model_input(unet_latents, timestep)
        prediction = self._base.predict(unet_latents, timestep_on_device, self._embeddings)
        if not self._guided:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        return unconditional + (self._scales * (conditional - unconditional)).to(prediction.dtype)

    def rows(self, kept: Sequence[int]) -> _GuidedPrediction:
        """The same for some rows only."""
        return _GuidedPrediction(self._base, self._conditioning.rows(kept))


def is_guided(guidance_scale: float) -> bool:
    """Whether this scale needs the second U-Net row, as diffusers decides it."""
    return guidance_scale > 1.0


@torch.no_grad()
def sample(
    base: SamplingBase,
    prompts: Sequence[str],
    *,
    seeds: Sequence[int],
    steps: int,
    guidance_scales: float | Sequence[float],
    width_px: int,
    height_px: int,
    negative_prompts: str | Sequence[str] = "",
    init_images: InitImages | None = None,
    on_step: StepControl | None = None,
    decode_images: int = 4,
) -> torch.Tensor:
    """Pictures (B, H, W, 3) uint8 on the base's device, one per prompt; fewer where ``on_step`` dropped rows.

    Args:
        base: The model.
        prompts: One per picture.
        seeds: One per picture: picture i starts from ``torch.Generator("cpu").manual_seed(seeds[i])``.
        steps: Denoising steps (``num_inference_steps``).
        guidance_scales: One for all or one per picture; either all above 1 or none.
        width_px: A multiple of the base's ``latent_scale``.
        height_px: A multiple of the base's ``latent_scale``.
        negative_prompts: One for all or one per picture; without effect at a guidance scale of 1 or less.
        init_images: What to begin from; None: noise.
        on_step: Gets control after each step.
        decode_images: Most pictures that the VAE decodes at once, which bounds its memory.

    Raises:
        ValueError: lengths or sizes differ, or guided and unguided rows are mixed.
        UnknownSchedulerError: diffusers has no such scheduler.
    """
    scales = _per_row(guidance_scales, len(prompts))
    conditioning = Conditioning(
        embeddings=_encode(base, prompts),
        negative_embeddings=(
            _encode(base, _per_row(negative_prompts, len(prompts))) if any(map(is_guided, scales)) else None
        ),
        guidance_scales=tuple(scales),
    )
    return sample_conditioned(
        base,
        conditioning,
        seeds=seeds,
        steps=steps,
        width_px=width_px,
        height_px=height_px,
        init_images=init_images,
        on_step=on_step,
        decode_images=decode_images,
    )


def sample_conditioned(
    base: SamplingBase,
    conditioning: Conditioning,
    *,
    seeds: Sequence[int],
    steps: int,
    width_px: int,
    height_px: int,
    init_images: InitImages | None = None,
    on_step: StepControl | None = None,
    decode_images: int = 4,
) -> torch.Tensor:
    """As ``sample``, for prompts that are embedded already."""
    latents = denoise(
        base,
        conditioning,
        seeds=seeds,
        steps=steps,
        width_px=width_px,
        height_px=height_px,
        init_images=init_images,
        on_step=on_step,
    )
    return decode_in_chunks(base, latents, decode_images)


@torch.no_grad()
def denoise(
    base: SamplingBase,
    conditioning: Conditioning,
    *,
    seeds: Sequence[int],
    steps: int,
    width_px: int,
    height_px: int,
    init_images: InitImages | None = None,
    on_step: StepControl | None = None,
) -> torch.Tensor:
    """Scaled latents (B, C, H / latent_scale, W / latent_scale) without noise; fewer if rows were dropped.

    Source: diffusers 0.42, ``StableDiffusionPipeline.__call__``. With ``init_images`` fewer than ``steps`` are run.
    """
    if len(seeds) != len(conditioning.embeddings):
        raise ValueError(f"{len(conditioning.embeddings)} prompts and {len(seeds)} seeds")
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    scheduler = make_scheduler(base.scheduler_config)
    # The scheduler's tables stay on the CPU: reading them must not wait for the GPU. The U-Net has its own.
    scheduler.set_timesteps(steps)
    dtype = conditioning.embeddings.dtype
    if init_images is None:
        shape = (base.latent_channels, height_px // base.latent_scale, width_px // base.latent_scale)
        start = start_from_noise(scheduler, generators, shape, device=base.device, dtype=dtype)
    else:
        init_images.check(len(seeds), width_px, height_px)
        start = start_from_images(base, scheduler, generators, init_images, dtype=dtype)
        steps -= init_images.first_step
    latents, timesteps = start.latents, start.timesteps
    timesteps_on_device = timesteps.to(base.device)
    predict = _GuidedPrediction(base, conditioning)
    arguments = step_arguments(scheduler, generators)
    calls = len(timesteps)
    for call, timestep in enumerate(timesteps):
        prediction = predict(scheduler, latents, timestep, timesteps_on_device[call])
        latents = scheduler.step(prediction, timestep, latents, **arguments, return_dict=False)[0]
        latents = start.after_step(scheduler, latents, timesteps[call + 1] if call + 1 < calls else None)
        # Some schedulers call the U-Net more often than once a step; progress counts what was asked for.
        kept = on_step((call + 1) * steps // calls, steps) if on_step else None
        if kept is None or len(kept) == len(latents):
            continue
        rows = _row_indices(kept, latents.device)
        keep_rows(scheduler, rows, latents.shape)
        latents = latents[rows]
        if not kept:
            break
        start = start.rows(rows)
        predict = predict.rows(kept)
        generators = [generators[row] for row in kept]
        arguments = step_arguments(scheduler, generators)
    return latents


@torch.no_grad()
def decode_in_chunks(base: SamplingBase, latents: torch.Tensor, decode_images: int) -> torch.Tensor:
    """Pictures (B, H, W, 3) uint8 of scaled latents (B, C, h, w), decoded ``decode_images`` at a time."""
    if len(latents) == 0:
        height_px, width_px = (side * base.latent_scale for side in latents.shape[2:])
        return torch.empty((0, height_px, width_px, 3), dtype=torch.uint8, device=latents.device)
    return torch.cat([base.decode(chunk) for chunk in torch.split(latents, decode_images)])


def _encode(base: SamplingBase, prompts: Sequence[str]) -> torch.Tensor:
    """Embeddings (B, L, D); each distinct prompt goes through the text encoder once."""
    distinct = list(dict.fromkeys(prompts))
    embeddings = base.encode_prompts(distinct)
    rows = torch.tensor([distinct.index(prompt) for prompt in prompts], dtype=torch.int64)
    return embeddings[rows.to(embeddings.device)]


def _per_row(value: ScalarT | Sequence[ScalarT], rows: int) -> list[ScalarT]:
    return [value] * rows if isinstance(value, str | float | int) else list(value)


def _row_indices(kept: Sequence[int], device: torch.device) -> torch.Tensor:
    return torch.tensor(list(kept), dtype=torch.int64).to(device)
