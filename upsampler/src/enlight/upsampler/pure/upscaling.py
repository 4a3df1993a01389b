"""From a small picture and a prompt to one four times as large: the denoising loop, and the decoding, in windows.

In one window, with the same weights, prompt, seed and scheduler, the picture is that of diffusers'
``StableDiffusionUpscalePipeline`` called with a CPU generator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch

from enlight.upsampler.pure.colours import match_low_frequencies
from enlight.upsampler.pure.schedulers import Scheduler, make_scheduler, step_arguments
from enlight.upsampler.pure.shared_norms import SharedNorms, thinned
from enlight.upsampler.pure.sizes import SCALE
from enlight.upsampler.pure.windows import Grid, Window, blend, plan_grid

Check = Callable[[int, int], None]
"""Called before each run of a network with (runs done, runs in all); it may raise to stop."""


class UpscalingModel(Protocol):
    """What upscaling needs of a model."""

    device: torch.device
    latent_channels: int
    size_multiple: int
    """Cells: the U-Net halves its input until a side is one of these."""

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """Configuration of the scheduler of the denoising."""
        ...

    @property
    def low_res_scheduler_config(self) -> Mapping[str, Any]:
        """Configuration of the scheduler whose noise is added to the small picture."""
        ...

    @property
    def unet(self) -> torch.nn.Module:
        """What ``predict`` runs, so that several windows can share its norms."""
        ...

    @property
    def decoder(self) -> torch.nn.Module:
        """What ``decode`` runs, likewise."""
        ...

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, embeddings: torch.Tensor, noise_levels: torch.Tensor
    ) -> torch.Tensor:
        """The U-Net's output (B, C, h, w) for latents with the small picture behind them (B, C + 3, h, w)."""
        ...

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Pictures (B, 3, h * SCALE, w * SCALE) in about [-1, 1], float32, of scaled latents (B, C, h, w)."""
        ...


@dataclass(frozen=True)
class Conditioning:
    """What a picture is steered by."""

    embeddings: torch.Tensor
    """(1, L, D), of the prompt."""
    negative_embeddings: torch.Tensor | None
    """(1, L, D), of the negative prompt; None without guidance."""
    guidance_scale: float
    noise_level: int
    """Step of the schedule whose noise is added to the small picture, which the network is told as well."""


@dataclass(frozen=True)
class WindowSizes:
    """The largest windows, in cells (pixels of the small picture)."""

    unet: int
    vae: int

    def halved(self) -> WindowSizes:
        """For when memory is short: a quarter of it. Not below what makes sense."""
        return WindowSizes(max(MIN_UNET_WINDOW, self.unet // 2), max(MIN_VAE_WINDOW, self.vae // 2))

    def grids(self, height: int, width: int, multiple: int) -> tuple[Grid, Grid]:
        """The windows of the U-Net and of the VAE."""
        unet, vae = (size // multiple * multiple for size in (self.unet, self.vae))
        return (
            plan_grid(height, width, largest=unet, overlap=unet // UNET_OVERLAP, multiple=multiple),
            plan_grid(height, width, largest=vae, overlap=vae // VAE_OVERLAP),
        )


MIN_UNET_WINDOW = 64
MIN_VAE_WINDOW = 32
UNET_OVERLAP = 5
"""A fifth of a window is shared with each neighbour: 64 cells of 320, an eighth of the 512 of the largest picture."""
VAE_OVERLAP = 6
"""A sixth: 32 cells of 192. The decoder looks less far than the U-Net."""
SIGMA_OF_OVERLAP = 8
"""Where there is more than one window, what is slower than an eighth of the smallest overlap is the input's."""


def is_guided(guidance_scale: float) -> bool:
    """Whether this scale needs the second U-Net row, as diffusers decides it."""
    return guidance_scale > 1.0


@torch.inference_mode()
def upscale(
    model: UpscalingModel,
    low: torch.Tensor,
    conditioning: Conditioning,
    *,
    seed: int,
    steps: int,
    windows: WindowSizes,
    check: Check | None = None,
) -> torch.Tensor:
    """The picture (1, 3, h * SCALE, w * SCALE) in about [-1, 1], float32, of ``low`` (1, 3, h, w) in [-1, 1].

    Args:
        model: The networks.
        low: Its sides are multiples of the model's ``size_multiple``.
        conditioning: Prompts, guidance, noise level.
        seed: Of the CPU generator that both noises come from.
        steps: Denoising steps (``num_inference_steps``).
        windows: Sizes from which on a picture is worked on in parts.
        check: Gets control before each run of a network.

    Raises:
        UnknownSchedulerError: diffusers has no such scheduler.
    """
    height, width = low.shape[2:]
    unet_grid, vae_grid = windows.grids(height, width, model.size_multiple)
    scheduler = make_scheduler(model.scheduler_config)
    scheduler.set_timesteps(steps)
    progress = _Progress(check, len(scheduler.timesteps) * _runs(unet_grid) + _runs(vae_grid))
    latents = _denoise(model, low, conditioning, scheduler, unet_grid, seed=seed, progress=progress)
    picture = _in_windows(model.decoder, model.decode, latents, vae_grid, progress, scale=SCALE)
    overlaps = [grid.overlap for grid in (unet_grid, vae_grid) if grid.count > 1]
    if not overlaps:
        return picture
    sigma = min(overlaps) / SIGMA_OF_OVERLAP
    return match_low_frequencies(picture, low.to(picture), scale=SCALE, sigma_cells=sigma)


class _Progress:
    """Counts the runs of the networks."""

    def __init__(self, check: Check | None, runs: int) -> None:
        self._check = check
        self._done = 0
        self._runs = runs

    def next(self) -> None:
        if self._check is not None:
            self._check(self._done, self._runs)
        self._done += 1


def _runs(grid: Grid) -> int:
    """How often a network runs for one picture: once per window, and once for the norms of several."""
    return grid.count + (grid.count > 1)


def _in_windows(
    network: torch.nn.Module,
    run: Callable[[torch.Tensor], torch.Tensor],
    given: torch.Tensor,
    grid: Grid,
    progress: _Progress,
    *,
    scale: int,
) -> torch.Tensor:
    """What ``run``, which uses ``network``, makes of ``given`` (B, C, h, w); in windows with shared norms."""

    def compute(window: Window) -> torch.Tensor:
        progress.next()
        return run(window.of(given))

    if grid.count == 1:
        return blend(grid, compute, scale=scale)
    norms = SharedNorms(network)
    progress.next()
    with norms.measuring():
        run(thinned(given, grid))
    with norms.applied():
        return blend(grid, compute, scale=scale)


def _denoise(
    model: UpscalingModel,
    low: torch.Tensor,
    conditioning: Conditioning,
    scheduler: Scheduler,
    grid: Grid,
    *,
    seed: int,
    progress: _Progress,
) -> torch.Tensor:
    """Scaled latents (1, C, h, w) without noise.

    In several windows, each step predicts in every window, blends the predictions, and goes one step for the whole.

    Source: diffusers 0.42, ``StableDiffusionUpscalePipeline.__call__``: the order of the random numbers, too.
    """
    dtype, device = conditioning.embeddings.dtype, model.device
    generator = torch.Generator("cpu").manual_seed(seed)
    noisy_low = _noisy(model, low.to(device, dtype), conditioning.noise_level, generator)
    shape = (1, model.latent_channels, *low.shape[2:])
    latents = torch.randn(shape, generator=generator, dtype=dtype).to(device) * scheduler.init_noise_sigma
    predict = _GuidedPrediction(model, conditioning)
    arguments = step_arguments(scheduler, generator)
    # The scheduler's tables stay on the CPU: reading them must not wait for the GPU. The U-Net has its own.
    timesteps_on_device = scheduler.timesteps.to(device)
    for timestep, timestep_on_device in zip(scheduler.timesteps, timesteps_on_device, strict=True):
        given = torch.cat([scheduler.scale_model_input(latents, timestep), noisy_low], dim=1)
        run = partial(predict, timestep_on_device)
        prediction = _in_windows(model.unet, run, given, grid, progress, scale=1).to(dtype)
        latents = scheduler.step(prediction, timestep, latents, **arguments, return_dict=False)[0]
    return latents


def _noisy(model: UpscalingModel, low: torch.Tensor, noise_level: int, generator: torch.Generator) -> torch.Tensor:
    noise = torch.randn(low.shape, generator=generator, dtype=low.dtype).to(low.device)
    level = torch.tensor([noise_level], device=low.device)
    return make_scheduler(model.low_res_scheduler_config).add_noise(low, noise, level)


class _GuidedPrediction:
    """The U-Net's output, guided where that is asked for."""

    def __init__(self, model: UpscalingModel, conditioning: Conditioning) -> None:
        embeddings, negative = conditioning.embeddings, conditioning.negative_embeddings
        self._model = model
        self._guidance_scale = conditioning.guidance_scale
        self._guided = negative is not None
        self._embeddings = embeddings if negative is None else torch.cat([negative, embeddings])
        self._noise_levels = torch.full((len(self._embeddings),), conditioning.noise_level, device=model.device)

    def __call__(self, timestep: torch.Tensor, given: torch.Tensor) -> torch.Tensor:
        """Output (1, C, h, w) for latents with the small picture behind them (1, C + 3, h, w)."""
        rows = given.expand(len(self._embeddings), -1, -1, -1)
        prediction = self._model.predict(rows, timestep, self._embeddings, self._noise_levels)
        if not self._guided:
            return prediction
        unconditional, conditional = prediction.chunk(2)
        return unconditional + self._guidance_scale * (conditional - unconditional)
