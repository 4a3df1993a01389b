from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, PNDMScheduler

from enlight.dreambooth_api.pure.losses import NoiseSchedule, dreambooth_loss

CPU = torch.device("cpu")
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def _draws() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x_0, eps = torch.randn(2, 5, 4, 8, 8, generator=generator)
    return x_0, eps, torch.tensor([0, 1, 500, 998, 999])


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, PNDMScheduler, DDPMScheduler])
def test_noise_and_targets_are_those_of_diffusers(scheduler_class: Any, rescale: bool, prediction_type: str) -> None:
    # Given a base's configuration, whichever sampler it names
    options: dict[str, Any] = {**STABLE_DIFFUSION, "prediction_type": prediction_type}
    if scheduler_class is not PNDMScheduler:
        options["rescale_betas_zero_snr"] = rescale
    config = dict(scheduler_class(**options).config)
    from_config: Any = DDPMScheduler.from_config
    reference = from_config(config)

    # When noise is added and the target computed
    schedule = NoiseSchedule.from_config(config, CPU)
    x_0, eps, t = _draws()

    # Then both are diffusers'
    target = eps if prediction_type == "epsilon" else reference.get_velocity(x_0, eps, t)
    assert schedule.timesteps == 1000
    assert torch.equal(schedule.add_noise(x_0, eps, t), reference.add_noise(x_0, eps, t))
    assert torch.equal(schedule.target(x_0, eps, t), target)


def test_zero_terminal_snr_leaves_only_noise_at_the_end() -> None:
    config = {**STABLE_DIFFUSION, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    schedule = NoiseSchedule.from_config(config, CPU)
    x_0, eps, _ = _draws()
    t = torch.full((5,), 999)
    assert torch.allclose(schedule.add_noise(x_0, eps, t), eps, atol=1e-6)
    assert torch.allclose(schedule.target(x_0, eps, t), -x_0, atol=1e-6)


def test_equations_by_hand() -> None:
    # abar = 0.64: x_t = 0.8 x_0 + 0.6 eps, v = 0.8 eps - 0.6 x_0
    schedule = NoiseSchedule(torch.tensor([0.8]), torch.tensor([0.6]), "v_prediction")
    x_0, eps, t = torch.full((1, 1, 1, 1), 2.0), torch.full((1, 1, 1, 1), -1.0), torch.tensor([0])
    assert schedule.add_noise(x_0, eps, t).item() == pytest.approx(1.0)
    assert schedule.target(x_0, eps, t).item() == pytest.approx(-2.0)


def test_another_prediction_type_is_refused() -> None:
    with pytest.raises(ValueError, match="sample"):
        NoiseSchedule.from_config({**STABLE_DIFFUSION, "prediction_type": "sample"}, CPU)


def test_prior_loss_by_hand() -> None:
    # Given an error of 1 on the photo and of 3 on the class image
    prediction = torch.tensor([1.0, 3.0]).reshape(2, 1, 1, 1)
    target = torch.zeros(2, 1, 1, 1)

    # Then the loss is 1 + lambda * 9, and without prior preservation the mean of both
    assert dreambooth_loss(prediction, target, 0.5).item() == pytest.approx(1 + 0.5 * 9)
    assert dreambooth_loss(prediction, target, 0.0).item() == pytest.approx(1)
    assert dreambooth_loss(prediction, target, None).item() == pytest.approx(5)


def test_the_loss_is_fp32_whatever_the_prediction_is() -> None:
    prediction = torch.full((2, 1, 1, 1), 300.0, dtype=torch.float16)
    loss = dreambooth_loss(prediction, torch.zeros_like(prediction), None)
    assert loss.dtype == torch.float32
    assert math.isfinite(loss.item())  # 300 squared is beyond fp16
