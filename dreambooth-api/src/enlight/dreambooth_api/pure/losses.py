"""The DreamBooth objective: noise a latent, predict, compare; the class images keep the class in place.

Symbols: x_0 latent of a photo, eps noise, t timestep, abar_t product of (1 - beta) up to t, x_t noisy latent,
v velocity. Sources: Ho et al. 2020 (eq. 4, 14), Salimans & Ho 2022 (v), Ruiz et al. 2022 (eq. 2, prior).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler

PREDICTION_TYPES = ("epsilon", "v_prediction")


@dataclass(frozen=True)
class NoiseSchedule:
    """How strong the noise is at each timestep, and what the network predicts."""

    signal: torch.Tensor
    """sqrt(abar_t), (T,) float32 on the training device."""
    noise: torch.Tensor
    """sqrt(1 - abar_t), (T,)."""
    prediction_type: str

    @classmethod
    def from_config(cls, config: Mapping[str, Any], device: torch.device) -> NoiseSchedule:
        """From the scheduler configuration of a base, whichever sampler it names.

        Raises:
            ValueError: the base predicts something else than noise or velocity.
        """
        scheduler: Any = DDPMScheduler.from_config(dict(config))  # knows every beta schedule, and zero SNR
        prediction_type = str(scheduler.config.prediction_type)
        if prediction_type not in PREDICTION_TYPES:
            raise ValueError(f"prediction type {prediction_type!r} cannot be trained")
        abar: torch.Tensor = scheduler.alphas_cumprod
        return cls((abar**0.5).to(device), ((1 - abar) ** 0.5).to(device), prediction_type)

    @property
    def timesteps(self) -> int:
        """T."""
        return len(self.signal)

    def add_noise(self, x_0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, for (B, C, h, w) and t (B,) int64."""
        return _per_row(self.signal, t) * x_0 + _per_row(self.noise, t) * eps

    def target(self, x_0: torch.Tensor, eps: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """What the network should predict: eps, or v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0."""
        if self.prediction_type == "epsilon":
            return eps
        return _per_row(self.signal, t) * eps - _per_row(self.noise, t) * x_0


def dreambooth_loss(prediction: torch.Tensor, target: torch.Tensor, prior_loss_weight: float | None) -> torch.Tensor:
    """Mean squared error in fp32, a scalar; with prior preservation the second half of the rows is the class.

    ``prior_loss_weight``: lambda of Ruiz et al. 2022; None without prior preservation.
    """
    prediction, target = prediction.float(), target.float()
    if prior_loss_weight is None:
        return torch.nn.functional.mse_loss(prediction, target)
    subject, prior = prediction.chunk(2)
    subject_target, prior_target = target.chunk(2)
    subject_loss = torch.nn.functional.mse_loss(subject, subject_target)
    prior_loss = torch.nn.functional.mse_loss(prior, prior_target)
    return subject_loss + prior_loss_weight * prior_loss


def _per_row(table: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return table[t].reshape(-1, 1, 1, 1)
