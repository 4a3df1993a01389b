"""Where denoising begins: in noise, in pictures under noise, or in pictures of which only a part is painted anew.

Each row has a generator of its own and draws from it what diffusers' pipelines draw, in their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from enlight.dreambooth_api.pure.schedulers import Scheduler, begin_at


class EncodingBase(Protocol):
    """What a start needs of a base model; ``pipelines.BasePipeline`` has all of it."""

    device: torch.device
    latent_scale: int
    latent_factor: float

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """Configuration of one of diffusers' schedulers."""
        ...

    def encode_photos(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation (B, C, h, w) of the unscaled latents of pixels (B, 3, H, W) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class InitImages:
    """The pictures that the rows of a batch begin from. Rows with the same picture share its tensor."""

    rgb: Sequence[torch.Tensor]
    """Each (H, W, 3) uint8."""
    repaint: Sequence[torch.Tensor] | None
    """Each (H, W) bool, True where the picture is painted anew; None: everywhere."""
    first_step: int
    """The step to begin with: the later, the more of the picture stays."""

    def check(self, rows: int, width_px: int, height_px: int) -> None:
        """Raises ValueError unless there is a picture of this size for each row."""
        shapes = [tuple(rgb.shape) for rgb in self.rgb]
        if shapes != [(height_px, width_px, 3)] * rows:
            raise ValueError(f"{rows} rows of {width_px} x {height_px} px and pictures of the shapes {shapes}")
        if self.repaint is not None and [tuple(mask.shape) for mask in self.repaint] != [shape[:2] for shape in shapes]:
            raise ValueError("masks and pictures differ in number or size")


class Start:
    """A batch before its first step: from noise or from whole pictures, after which nothing holds it."""

    def __init__(self, latents: torch.Tensor, timesteps: torch.Tensor) -> None:
        self.latents = latents
        """(B, C, h, w), as noisy as the first of ``timesteps`` asks."""
        self.timesteps = timesteps
        """On the CPU, one for each call of the network."""

    def after_step(
        self, scheduler: Scheduler, latents: torch.Tensor, next_timestep: torch.Tensor | None
    ) -> torch.Tensor:
        """The latents to go on with; ``next_timestep`` is None after the last step."""
        return latents

    def rows(self, rows: torch.Tensor) -> Start:
        """The same for some rows only, given as indices."""
        return self


class MaskedStart(Start):
    """From pictures of which only a part is painted anew: the rest is put back after each step, under less and less
    noise."""

    def __init__(
        self,
        latents: torch.Tensor,
        timesteps: torch.Tensor,
        *,
        image_latents: torch.Tensor,
        noise: torch.Tensor,
        repaint: torch.Tensor,
    ) -> None:
        super().__init__(latents, timesteps)
        self._image_latents = image_latents
        self._noise = noise
        self._repaint = repaint

    def after_step(
        self, scheduler: Scheduler, latents: torch.Tensor, next_timestep: torch.Tensor | None
    ) -> torch.Tensor:
        """Source: diffusers 0.42, ``StableDiffusionInpaintPipeline.__call__`` for a U-Net without mask channels."""
        kept = self._image_latents
        if next_timestep is not None:
            kept = scheduler.add_noise(kept, self._noise, next_timestep.reshape(1))
        return (1 - self._repaint) * kept + self._repaint * latents

    def rows(self, rows: torch.Tensor) -> MaskedStart:
        """The same for some rows only, given as indices."""
        return MaskedStart(
            self.latents[rows],
            self.timesteps,
            image_latents=self._image_latents[rows],
            noise=self._noise[rows],
            repaint=self._repaint[rows],
        )


def start_from_noise(
    scheduler: Scheduler,
    generators: Sequence[torch.Generator],
    shape: tuple[int, int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Start:
    """Source: diffusers 0.42, ``StableDiffusionPipeline.prepare_latents``; ``shape`` is (C, h, w)."""
    noise = draw_noise(generators, shape, device=device, dtype=dtype)
    return Start(noise * scheduler.init_noise_sigma, scheduler.timesteps)


def start_from_images(
    base: EncodingBase,
    scheduler: Scheduler,
    generators: Sequence[torch.Generator],
    images: InitImages,
    *,
    dtype: torch.dtype,
) -> Start:
    """Source: diffusers 0.42, ``prepare_latents`` of ``StableDiffusionImg2ImgPipeline`` and, with masks, of
    ``StableDiffusionInpaintPipeline``."""
    means, deviations = _encode(base, images.rgb)
    shape = (means.shape[1], means.shape[2], means.shape[3])
    drawn = draw_noise(generators, shape, device=base.device, dtype=means.dtype)
    image_latents = base.latent_factor * (means + deviations * drawn)
    noise = draw_noise(generators, shape, device=base.device, dtype=dtype)
    timesteps = begin_at(scheduler, images.first_step)
    if images.repaint is None:
        return Start(scheduler.add_noise(image_latents, noise, timesteps[:1].repeat(len(generators))), timesteps)
    # The pipeline encodes the masked picture, too, for U-Nets that take it. Samplers that draw go on from there.
    draw_noise(generators, shape, device=torch.device("cpu"), dtype=means.dtype)
    if images.first_step == 0:
        latents = noise * scheduler.init_noise_sigma
    else:
        latents = scheduler.add_noise(image_latents, noise, timesteps[:1].repeat(len(generators)))
    repaint = torch.stack([_on_latents(mask, base.latent_scale) for mask in images.repaint])
    return MaskedStart(
        latents,
        timesteps,
        image_latents=image_latents,
        noise=noise,
        repaint=repaint[:, None].to(base.device, dtype),
    )


def draw_noise(
    generators: Sequence[torch.Generator],
    shape: tuple[int, int, int],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Standard normal noise (B, C, h, w): row i from CPU generator i, drawn in ``dtype`` on the CPU.

    Source: diffusers 0.42, ``randn_tensor`` with a list of CPU generators.
    """
    rows = [torch.randn((1, *shape), generator=generator, dtype=dtype) for generator in generators]
    return torch.cat(rows).to(device)


def _encode(base: EncodingBase, rgb: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Means and deviations (B, C, h, w). One picture at a time: neither the memory nor the last bits depend on the
    batch."""
    distinct = {id(picture): picture for picture in rgb}
    encoded = {key: base.encode_photos(_to_pixels(picture)) for key, picture in distinct.items()}
    means, deviations = zip(*(encoded[id(picture)] for picture in rgb), strict=True)
    return torch.cat(means), torch.cat(deviations)


def _to_pixels(rgb: torch.Tensor) -> torch.Tensor:
    """(1, 3, H, W) in [-1, 1], computed as diffusers' ``VaeImageProcessor`` does."""
    return 2.0 * (rgb.permute(2, 0, 1)[None].float() / 255.0) - 1.0


def _on_latents(repaint: torch.Tensor, latent_scale: int) -> torch.Tensor:
    """A mask (H, W) for the cells (h, w): that of each cell's first pixel, as diffusers takes it. Of a mask so thin
    that this leaves nothing, every cell that it touches."""
    cells = repaint[::latent_scale, ::latent_scale]
    if cells.any():
        return cells
    touched = torch.nn.functional.max_pool2d(repaint[None].float(), latent_scale)
    return touched[0].bool()
