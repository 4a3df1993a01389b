"""The schedulers that samplers are compared under, and how far pictures are apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from enlight.dreambooth_api.pipelines import StableDiffusion

DPM = {"algorithm_type": "dpmsolver++", "solver_order": 2}
SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {},
    "PNDMScheduler": {"skip_prk_steps": True},
    "EulerDiscreteScheduler": {},
    "DPMSolverMultistepScheduler": DPM,
    "UniPCMultistepScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "LMSDiscreteScheduler": {},
    "KDPM2DiscreteScheduler": {},
    "DEISMultistepScheduler": {},
    "DPMSolverSinglestepScheduler": {},
    "DDPMScheduler": {},
    "LCMScheduler": {},
}


def with_scheduler(
    base: StableDiffusion, name: str, changes: Mapping[str, Any], prediction_type: str = "epsilon"
) -> StableDiffusion:
    """The same networks under another scheduler."""
    config = {
        "_class_name": name,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "prediction_type": prediction_type,
        **changes,
    }
    return StableDiffusion(
        tokenizer=base.tokenizer,
        text_encoder=base.text_encoder,
        vae=base.vae,
        unet=base.unet,
        scheduler_config=config,
    )


def largest_difference(ours: torch.Tensor | np.ndarray[Any, Any], theirs: Any) -> int:
    ours, theirs = (np.asarray(pictures).astype(int) for pictures in (ours, theirs))
    assert ours.shape == theirs.shape
    assert ours.std() > 5, "a flat picture proves nothing"

    return int(np.abs(ours - theirs).max())
