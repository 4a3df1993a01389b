"""Networks made by hand for ``pure.upscaling``: what they should give is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

SCHEDULE = {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


class CopyingUpscaler:
    """Denoises to the small picture itself, and decodes by enlarging it: what comes out is what went in, blurred.

    ``tone`` is added by every run of the decoder, another for each: as networks do that normalise over what they see.
    """

    device = torch.device("cpu")
    latent_channels = 3
    size_multiple = 8
    scheduler_config: Mapping[str, Any] = {
        "_class_name": "DDIMScheduler",
        **SCHEDULE,
        "clip_sample": False,
        "set_alpha_to_one": True,
        "prediction_type": "sample",
    }
    low_res_scheduler_config: Mapping[str, Any] = {"_class_name": "DDPMScheduler", **SCHEDULE}

    def __init__(self, *, tone: float = 0.0) -> None:
        self.unet: nn.Module = nn.Identity()
        self.decoder: nn.Module = nn.Identity()
        self.rows: list[int] = []
        """Batch of each run of the U-Net."""
        self.sizes: list[tuple[int, int]] = []
        """Height and width of each run of the U-Net."""
        self._tone = tone
        self._generator = torch.Generator().manual_seed(0)

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, embeddings: torch.Tensor, noise_levels: torch.Tensor
    ) -> torch.Tensor:
        self.rows.append(len(latents))
        self.sizes.append((latents.shape[2], latents.shape[3]))
        assert len(embeddings) == len(noise_levels) == len(latents)
        return latents[:, 3:]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        tone = (torch.rand((1, 3, 1, 1), generator=self._generator) * 2 - 1) * self._tone
        kernel = torch.ones(3, 1, 3, 3) / 9
        near = functional.conv2d(functional.pad(latents, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
        detail = functional.interpolate(latents, scale_factor=4, mode="nearest")
        return 0.5 * functional.interpolate(near, scale_factor=4, mode="nearest") + 0.5 * detail + tone


class NormingUpscaler(CopyingUpscaler):
    """The same, but that decoder or U-Net bring what they see to one contrast, as group norms do."""

    def __init__(self, part: str) -> None:
        super().__init__()
        setattr(self, part, nn.GroupNorm(1, 3, affine=False))

    def predict(
        self, latents: torch.Tensor, timestep: torch.Tensor, embeddings: torch.Tensor, noise_levels: torch.Tensor
    ) -> torch.Tensor:
        prediction = super().predict(latents, timestep, embeddings, noise_levels)
        normed: torch.Tensor = self.unet(prediction)
        return normed

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return super().decode(self.decoder(latents))
